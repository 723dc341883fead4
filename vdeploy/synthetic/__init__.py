"""Synthetic, seeded clips of drawn figures that interact calmly or fight, for the demo and for tests.

Scene, light, clothes, number of people, camera, length and codec are drawn independently of the class. Only the
motion differs. A model that is trained on these clips does not recognise real violence.

    poses         joint angles over time, from a few keys or from a gait
    calm          motion of the non-violent class
    fight         motion of the violent class
    figure        drawing of a person in a pose
    backdrop      the scene
    camera        shake, flicker, blur, noise
    clip          one clip, frame by frame
    dataset       a folder of clips
"""

from __future__ import annotations

from vdeploy.synthetic.dataset import CLASS_FOLDERS, MANIFEST, synthesize

__all__ = ["CLASS_FOLDERS", "MANIFEST", "synthesize"]
