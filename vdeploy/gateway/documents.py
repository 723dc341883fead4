"""JSON documents of requests and answers, as OpenAPI shows them."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from vdeploy.gateway.limits import MIN_STRIDE_S, MIN_WINDOW_S
from vdeploy.video.pictures import Fit

__all__ = [
    "About",
    "CameraDocument",
    "CanaryDocument",
    "ClipShape",
    "ErrorDocument",
    "EventDocument",
    "Health",
    "ModelDocument",
    "Prediction",
    "RuleDocument",
    "ShareDocument",
    "StreamDocument",
    "TimelineDocument",
    "Timings",
    "WindowDocument",
]


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class ErrorDetail(_Document):
    """Why a request was refused."""

    code: str = Field(description="a name for programs", examples=["unreadable_video"])
    message: str = Field(description="what was wrong", examples=["the video holds no video stream"])
    hint: str = Field(description="what to do about it; may be empty")
    request_id: str = Field(description="also in the header X-Request-ID, and in the gateway's log")


class ErrorDocument(_Document):
    """Every answer of 400 and above."""

    error: ErrorDetail


class ModelDocument(_Document):
    """The model that gave an answer."""

    version: str = Field(
        description="first 12 digits of the SHA-256 of the bundle's manifest", examples=["3f2a9c0e71bd"]
    )
    run: str = Field(description="its training run", examples=["mine"])
    classes: tuple[str, str] = Field(examples=[["non-violent", "violent"]])


class CanaryDocument(_Document):
    """The share of the requests that a new version gets."""

    percent: float = Field(ge=0, le=100, description="share in percent; the same request id gets the same version")
    model: ModelDocument
    serving: ModelDocument = Field(description="the version that gets the other requests")


class ShareDocument(_Document):
    """A share of the requests, in percent."""

    percent: float = Field(ge=0, le=100, examples=[5])


class ClipShape(_Document):
    """The frames that POST /predict/frames takes: an array `uint8[frames, size, size, 3]`, RGB."""

    frames: int = Field(examples=[16])
    size: int = Field(examples=[224])
    fit: Fit = Field("squeeze", description="how pictures become squares: the aspect ratio is kept by letterbox only")


class About(_Document):
    """The model and the limits of this gateway."""

    model: ModelDocument
    threshold: float = Field(description="probability from which a clip counts as violent", examples=[0.5])
    clip: ClipShape
    api_key_required: bool
    timelines: bool = Field(description="whether timelines and streams are available")
    max_upload_bytes: int
    max_duration_s: float
    max_pixels: int
    max_frames: int


class Timings(_Document):
    """Duration of each step in milliseconds."""

    receive_ms: float = Field(description="until the body had arrived")
    decode_ms: float = Field(0.0, description="waiting for a decoder included; 0 for frames and timelines")
    queue_ms: float = Field(0.0, description="waiting for the scorer; 0 for timelines")
    score_ms: float = Field(description="of the batch that the clip was part of; of a timeline, all after receiving")
    total_ms: float


class WindowDocument(_Document):
    """A window of a video with its score."""

    start_s: float
    end_s: float
    probability: float = Field(description="of violence")


class EventDocument(_Document):
    """A part of a video that counts as violent."""

    start_s: float
    end_s: float
    peak_s: float
    peak_probability: float
    confidence: float = Field(description="mean probability of its windows")


class RuleDocument(_Document):
    """The rule that turns windows into events."""

    enter: float
    leave: float
    min_duration_s: float
    merge_gap_s: float


class TimelineDocument(_Document):
    """Scores over time and the events in them; `vdeploy predict --timeline` writes the same."""

    schema_version: str
    source: str = Field(description="always empty: the gateway keeps no file names")
    duration_s: float
    window_s: float
    stride_s: float
    sampled_fps: float
    rule: RuleDocument
    windows: list[WindowDocument]
    events: list[EventDocument]
    dropped_frames: int
    warnings: list[str]


class Prediction(_Document):
    """The score of a video."""

    violent_probability: float = Field(
        ge=0, le=1, description="of the clip; with a timeline, of its most violent window", examples=[0.9312]
    )
    is_violent: bool = Field(description="whether that reaches the threshold")
    threshold: float
    model: ModelDocument
    timeline: TimelineDocument | None = None
    timings: Timings
    warnings: list[str] = Field(description="what is unusual about the video")
    request_id: str


class CameraDocument(_Document):
    """A camera to watch."""

    source: str = Field(description="a name that the operator has given", examples=["door"])
    window_s: float | None = Field(None, ge=MIN_WINDOW_S, le=600, description="as for POST /predict")
    stride_s: float | None = Field(None, ge=MIN_STRIDE_S, le=600, description="as for POST /predict")


class StreamDocument(_Document):
    """A video that is being watched."""

    id: str
    state: str = Field(description="running, finished, failed or cancelled")
    events_url: str = Field(examples=["/streams/0b5f9d/events"])


class Health(_Document):
    """State of the gateway."""

    status: str = Field(examples=["ok"])
