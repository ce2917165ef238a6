"""Photos of all kinds, whole and broken."""

from __future__ import annotations

import io

from PIL import Image, ImageDraw


def picture(width: int = 60, height: int = 40, mode: str = "RGB", fmt: str = "PNG", colour: str = "red") -> bytes:
    """An ellipse on white."""
    file = io.BytesIO()
    _draw(width, height, mode, colour).save(file, fmt)
    return file.getvalue()


def animated() -> bytes:
    """A GIF whose first frame is the red ellipse and whose second is a blue one."""
    file = io.BytesIO()
    _draw(60, 40, "RGB", "red").save(file, "GIF", save_all=True, append_images=[_draw(60, 40, "RGB", "blue")])
    return file.getvalue()


def _draw(width: int, height: int, mode: str, colour: str) -> Image.Image:
    image = Image.new(mode, (width, height), "white")
    ImageDraw.Draw(image).ellipse((width // 6, height // 8, width * 5 // 6, height * 7 // 8), fill=colour)
    return image


RED, BLUE = picture(), picture(90, 90, fmt="JPEG", colour="blue")
BROKEN = {
    "a PNG cut off": RED[: len(RED) // 2],
    "a JPEG cut off": BLUE[: len(BLUE) * 2 // 3],
    "damaged inside": RED[:60] + bytes(40) + RED[100:],
    "no image": b"hello",
    "empty": b"",
    "a bomb": picture(20_000, 10_000, mode="1", colour="black"),  # 25 MB packed to 25 kB, 600 MB as RGB
    "nearly a bomb": picture(10_000, 9_000, mode="1", colour="black"),  # where Pillow only warns
}
WHOLE = {
    "CMYK": picture(mode="CMYK", fmt="JPEG", colour="blue"),
    "grey": picture(mode="L", colour="black"),
    "palette": picture(mode="P"),
    "alpha": picture(mode="RGBA"),
    "large": picture(3000, 2000, fmt="JPEG"),
    "a dot": picture(1, 1),
    "a line": picture(300, 2),
    "animated": animated(),
}
