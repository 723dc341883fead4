"""Synthetic, seeded clips of people who get along or fight: data for a demonstration and for tests, not for a product.

What the two classes share is drawn without knowing the class: place, light, clothes, number of people, camera, length
and codec. What differs is how the people move.

    poses         joint angles over time, from a few keys or from a gait
    calm          people who get along
    fight         people who fight
    figure        a person as it is drawn in a pose
    backdrop      the place
    camera        shake, flicker, blur, noise
    clip          one clip, frame by frame
    dataset       a folder of clips
"""

from __future__ import annotations

from vdeploy.synthetic.dataset import CLASS_FOLDERS, MANIFEST, synthesize

__all__ = ["CLASS_FOLDERS", "MANIFEST", "synthesize"]
