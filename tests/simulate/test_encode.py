from __future__ import annotations

import cv2
import numpy as np
import pytest
from simulate.read_back import Image, decode_video, psnr_db

from perception_batch.simulate.encode import mosaic_rggb, nv12, open_encoder

RNG = np.random.default_rng(5)


def street(step: int = 0, size: tuple[int, int] = (240, 160)) -> Image:
    """A picture like the simulator's: flat coloured shapes with soft edges, moving, with a sensor's noise."""
    w, h = size
    image = np.full((h, w, 3), (120, 120, 125), np.uint8)
    image[: h // 2] = (140, 180, 230)
    for k in range(14):
        chance = np.random.default_rng(k)
        x, y = int(chance.integers(-20, w)) + 2 * step, int(chance.integers(h // 4, h))
        color = tuple(int(v) for v in chance.integers(40, 215, 3))
        cv2.rectangle(image, (x, y), (x + 40, y + 24), color, -1)
    image = cv2.GaussianBlur(image, (0, 0), 0.8)  # type: ignore[assignment]
    return np.clip(image + RNG.normal(0, 1.5, image.shape), 0, 255).astype(np.uint8)


def encode(image_format: str, image: Image) -> tuple[bytes, int]:
    h, w = image.shape[:2]
    picture = open_encoder(image_format, (w, h), 10.0, 92).encode(image)  # type: ignore[arg-type]
    assert (picture.width_px, picture.height_px, picture.encoding) == (w, h, image_format)
    return picture.data.tobytes(), picture.step_bytes


def test_png_and_rgb8_are_the_picture() -> None:
    image = street()
    data, _ = encode("png", image)
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    np.testing.assert_array_equal(decoded[..., ::-1], image)
    data, step = encode("rgb8", image)
    assert step == 720
    np.testing.assert_array_equal(np.frombuffer(data, np.uint8).reshape(image.shape), image)


def test_a_view_that_is_not_contiguous_is_encoded_as_it_looks() -> None:
    image = street()[:, ::-1]
    data, _ = encode("rgb8", image)
    np.testing.assert_array_equal(np.frombuffer(data, np.uint8).reshape(image.shape), image)


def plain_samples(image: Image) -> Image:
    """Each pixel's own colour under an RGGB filter, pixel by pixel."""
    out = np.empty(image.shape[:2], np.uint8)
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            out[y, x] = image[y, x, {(0, 0): 0, (0, 1): 1, (1, 0): 1, (1, 1): 2}[y % 2, x % 2]]
    return out


def test_bayer_comes_back_above_35_db_and_better_than_plain_samples() -> None:
    image = street()
    data, step = encode("bayer_rggb8", image)
    raw = np.frombuffer(data, np.uint8).reshape(160, 240)
    plain = plain_samples(image)
    assert step == 240
    assert float(np.abs(raw.astype(int) - plain).mean()) < 3
    back = psnr_db(cv2.cvtColor(raw, cv2.COLOR_BayerBG2RGB), image)
    assert back > 35
    assert back > psnr_db(cv2.cvtColor(plain, cv2.COLOR_BayerBG2RGB), image) + 0.5
    assert psnr_db(cv2.cvtColor(raw, cv2.COLOR_BayerRG2RGB), image) < 30  # another pattern would be wrong


def test_a_grey_world_survives_bayer_exactly() -> None:
    grey = np.full((32, 48, 3), 97, np.uint8)
    np.testing.assert_array_equal(cv2.cvtColor(mosaic_rggb(grey), cv2.COLOR_BayerBG2RGB), grey)


def test_nv12_comes_back_above_35_db_and_better_than_opencvs_own() -> None:
    image = street()
    data, step = encode("nv12", image)
    assert (len(data), step) == (240 * 160 * 3 // 2, 240)
    back = cv2.cvtColor(np.frombuffer(data, np.uint8).reshape(240, 240), cv2.COLOR_YUV2RGB_NV12)
    plain = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2YUV_I420), cv2.COLOR_YUV2RGB_I420)
    assert psnr_db(back, image) > 35
    assert psnr_db(back, image) > psnr_db(plain, image)


@pytest.mark.parametrize(
    "color", [(0, 0, 0), (255, 255, 255), (255, 0, 0), (0, 255, 0), (0, 0, 255), (90, 160, 30)]
)
def test_nv12_of_one_colour_is_that_colour_by_the_standard(color: tuple[int, int, int]) -> None:
    """BT.601-7 by hand: Y = 16 + 219 (0.299 R + 0.587 G + 0.114 B), U and V 128 + 224 (B - Y) / 1.772 and so on."""
    r, g, b = (c / 255 for c in color)
    y = 0.299 * r + 0.587 * g + 0.114 * b
    expected = (16 + 219 * y, 128 + 224 * (b - y) / 1.772, 128 + 224 * (r - y) / 1.402)
    data = nv12(np.full((4, 6, 3), color, np.uint8))
    assert data[:24] == pytest.approx(expected[0], abs=1)
    assert data[24::2] == pytest.approx(expected[1], abs=1)
    assert data[25::2] == pytest.approx(expected[2], abs=1)


def test_jpeg_comes_back_above_35_db() -> None:
    image = street()
    data, _ = encode("jpeg", image)
    back = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert back is not None
    assert psnr_db(back[..., ::-1], image) > 35


def nal_types(packet: bytes, codec: str) -> list[int]:
    """Types of the units of an Annex B packet."""
    units = packet.replace(b"\x00\x00\x00\x01", b"\x00\x00\x01").split(b"\x00\x00\x01")[1:]
    return [u[0] & 31 if codec == "h264" else u[0] >> 1 & 63 for u in units]


@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_video(codec: str) -> None:
    images = [street(i) for i in range(25)]

    def packets() -> list[bytes]:
        encoder = open_encoder(codec, (240, 160), 10.0, 92)  # type: ignore[arg-type]
        return [encoder.encode(image).data.tobytes() for image in images]

    data = packets()
    assert data == packets()  # the same bytes every time
    parameters = {"h264": {7, 8}, "h265": {32, 33, 34}}[codec]
    key = {"h264": {5}, "h265": {19, 20}}[codec]
    for i, packet in enumerate(data):
        types = set(nal_types(packet, codec))
        assert packet.startswith((b"\x00\x00\x01", b"\x00\x00\x00\x01"))
        assert (parameters <= types and bool(key & types)) == (i % 10 == 0)
    back = decode_video(data, codec)
    assert len(back) == 25
    for image, decoded in zip(images, back, strict=True):
        assert psnr_db(decoded, image) > 35
    # Every key frame is a place to begin.
    assert len(decode_video(data[10:], codec)) == 15
    np.testing.assert_array_equal(decode_video(data[10:], codec)[-1], back[-1])


def test_without_b_frames_pictures_leave_the_decoder_in_the_order_of_packets() -> None:
    import av

    for codec, name in (("h264", "h264"), ("h265", "hevc")):
        encoder = open_encoder(codec, (64, 48), 10.0, 92)  # type: ignore[arg-type]
        context = av.CodecContext.create(name, "r")
        frames = []
        for i in range(12):
            packet = av.Packet(encoder.encode(street(i, (64, 48))).data.tobytes())
            packet.pts = i
            frames += context.decode(packet)
        frames += context.decode(None)
        assert [f.pts for f in frames] == list(range(12))
        assert {int(f.pict_type) for f in frames} == {1, 2}  # libavutil: I is 1, P 2, B 3
