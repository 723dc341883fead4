"""One decoder process, seen from the program that uses it: started when needed, read with a deadline, killed late."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence

from vdeploy.video.workers.cancelling import CancelPipe
from vdeploy.video.workers.launch import launch
from vdeploy.video.workers.message_reader import Message, MessageReader
from vdeploy.video.workers.messages import END_OF_GROUP, OUT_OF_MEMORY, Request

__all__ = [
    "DecoderConfusedError",
    "DecoderError",
    "DecoderLostError",
    "DecoderProcess",
    "DecoderSilentError",
    "DecoderStartError",
]

_START_SECONDS = 60.0
_CANCEL_SECONDS = 5.0


class DecoderError(Exception):
    """A decoder process did not answer as it should; the text says what it did."""


class DecoderStartError(DecoderError):
    """It cannot be started."""


class DecoderLostError(DecoderError):
    """It ended in the middle of an answer."""


class DecoderSilentError(DecoderError):
    """It said nothing in time."""


class DecoderConfusedError(DecoderError):
    """It said something that is no answer."""


class DecoderProcess:
    """A process that decodes one source after another.

    Args:
        tasks: What it can do: names of `vdeploy.video.workers.tasks.TASKS`.
        network: Whether it may reach the network, for cameras.
        nice: How much lower its priority is than that of this process, 0 to 19.
        report_missing: Called when it is started with the protections that this system does not offer.

    Attributes:
        source: What it decodes at the moment; empty once the answer has ended.
        group: Files that its confined process may read, one after the other; empty if it ends after each file.
    """

    def __init__(
        self,
        tasks: Sequence[str],
        *,
        network: bool = False,
        nice: int = 0,
        report_missing: Callable[[tuple[str, ...]], object] | None = None,
    ) -> None:
        self.source = ""
        self._options = [f"--tasks={','.join(tasks)}", f"--nice={nice}", *(["--network"] if network else [])]
        self._network = network
        self._report_missing = report_missing
        self._process: subprocess.Popen[bytes] | None = None
        self.group: tuple[str, ...] = ()
        self._reader: MessageReader | None = None
        self._cancelling: CancelPipe | None = None
        self._is_ready = False
        self._is_confined = False
        self._asked = 0

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its process id; 0 while it does not run."""
        return self._process.pid if self._process else 0

    def start(self, check: Callable[[], None] = lambda: None) -> None:
        """Start it, unless it runs, and wait until it is ready.

        Args:
            check: Called while it is not; what it raises ends the wait, and the next call goes on with it.

        Raises:
            DecoderStartError: It cannot be started, or does not say that it is ready.
        """
        if not self.is_alive:
            self.kill()
            self._asked, self._is_ready = 0, False
            try:
                self._process, self._reader, self._cancelling = launch(self._options, network=self._network)
            except OSError as error:
                raise DecoderStartError(f"cannot be started ({error.strerror})") from None
        if self._is_ready:
            return
        assert self._reader is not None  # noqa: S101  it was launched
        try:
            ready = self._reader.read(time.monotonic() + _START_SECONDS, 0, check)
        except TimeoutError:
            self.kill()
            raise DecoderStartError(f"was not ready within {_START_SECONDS:.0f} s") from None
        except (EOFError, ValueError):
            self.kill()
            raise DecoderStartError("cannot be started") from None
        if not ready.values.get("ready"):
            self.kill()
            raise DecoderStartError("cannot be started")
        missing = tuple(ready.values.get("missing", ()))
        self._is_ready, self._is_confined = True, not missing
        if self._report_missing:
            self._report_missing(missing)

    def run(
        self,
        request: Request,
        check: Callable[[], None],
        *,
        within_s: float | None = None,
        silence_s: float | None = None,
    ) -> Iterator[Message]:
        """Decode a source.

        Args:
            request: The source, and what to do with it.
            check: Called while there is no message; what it raises ends the iteration.
            within_s: Seconds that the answer may take.
            silence_s: Seconds that the process may say nothing.

        Yields:
            Messages, without heartbeats; the last one has an ``end``.

        Raises:
            DecoderError: It ended, took too long, or said something that it should not.
        """
        self.source = request.source
        ends_at = None if within_s is None else time.monotonic() + within_s
        self._ask(request, check, silence_s)
        while self.source:
            message = self._next(request, check, ends_at, silence_s)
            if message.values.get("end"):
                self.source = ""
            if not message.values.get("beat"):
                yield message

    def send(self, line: bytes) -> None:
        """Send a line to the task that answers at the moment.

        Raises:
            DecoderLostError: The process has ended.
        """
        assert self._process is not None  # noqa: S101  started before it is asked
        assert self._process.stdin is not None  # noqa: S101  opened as a pipe
        pipe, rest = self._process.stdin, memoryview(line)
        try:
            while rest:
                rest = rest[pipe.write(rest) :]
        except BrokenPipeError:
            raise DecoderLostError(self._cause()) from None

    def cancel(self) -> bool:
        """Give up what it decodes: end its child if that is confined and alone, else all of it.

        Returns:
            Whether it still runs.
        """
        if self.is_alive and self.source and self._is_confined and not self.group:
            assert self._reader is not None  # noqa: S101  it runs
            assert self._cancelling is not None  # noqa: S101  it runs
            with contextlib.suppress(OSError, EOFError, TimeoutError):
                self._reader.skip(self._cancelling.ask(self._asked), time.monotonic() + _CANCEL_SECONDS)
                self.source = ""
        if self.source:
            self.kill()
        return self.is_alive

    def kill(self) -> None:
        """End the process and its children, and reap it."""
        if self._cancelling is not None:
            self._cancelling.close()
            self._cancelling = None
        process, self._process, self._reader = self._process, None, None
        self.group, self.source = (), ""
        if process is None:
            return
        process.kill()
        with contextlib.suppress(ProcessLookupError):  # it had not made its group yet, nor any child
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()

    def _ask(self, request: Request, check: Callable[[], None], silence_s: float | None) -> None:
        """Send a request; the confined process of another group is ended before."""
        same = bool(request.group) and request.group == self.group
        if self.group and not same:
            self.send(END_OF_GROUP)
            self._next(request, check, None, silence_s or _START_SECONDS)
        self.group = request.group
        self._asked += 1
        self.send(request.to_line(with_group=not same))

    def _next(
        self, request: Request, check: Callable[[], None], ends_at: float | None, silence_s: float | None
    ) -> Message:
        assert self._reader is not None  # noqa: S101  started before it is read
        deadline = time.monotonic() + silence_s if silence_s is not None else ends_at
        try:
            return self._reader.read(deadline, request.largest, check)
        except (EOFError, BrokenPipeError):
            raise DecoderLostError(self._cause()) from None
        except TimeoutError:
            raise DecoderSilentError("was ended because it did nothing for too long") from None
        except (ValueError, TypeError, RecursionError):
            raise DecoderConfusedError("sent something other than messages") from None

    def _cause(self) -> str:
        """What ended the process."""
        process = self._process
        assert process is not None  # noqa: S101  started before it is read
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_START_SECONDS)
        code = process.returncode or 0
        if code == OUT_OF_MEMORY:
            return "needs more memory than is allowed"
        number = -code if code < 0 else code - 128
        try:
            name = signal.Signals(number).name
        except ValueError:
            return "ended before its time"
        by_system = ", as the system does where memory runs out" if number == signal.SIGKILL else ""
        return f"was ended by {name}{by_system}"
