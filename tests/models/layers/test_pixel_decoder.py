"""Four views meet in a pixel: each of them reaches it, and no other but what is near."""

import torch

from maskris.models.layers.pixel_decoder import PixelDecoder


def test_every_view_reaches_the_pixels_where_it_belongs() -> None:
    torch.manual_seed(0)
    decoder = PixelDecoder(fine=4, coarse=8, width=6)
    fine, body, whole = torch.randn(1, 4, 8, 12), torch.randn(1, 8, 4, 6), torch.randn(1, 8, 2, 2)
    with torch.no_grad():
        before = decoder(fine, body, whole)
        assert before.shape == (1, 6, 8, 12)
        fine[..., 0, 0] += 1
        changed = (decoder(fine, body, whole) - before).abs().amax(1)[0] > 1e-6
        assert changed[:3, :3].all(), "two convolutions of 3 x 3"
        assert not changed[3:].any()
        assert not changed[:, 3:].any()
        before = decoder(fine, body, whole)
        whole[..., 1, 1] += 1
        changed = (decoder(fine, body, whole) - before).abs().amax(1)[0] > 1e-6
        assert changed[-1, -1]
        assert not changed[0, 0]
        before = decoder(fine, body, whole)
        body[..., 0, 0] += 1
        changed = (decoder(fine, body, whole) - before).abs().amax(1)[0] > 1e-6
        assert changed[:4, :4].all()
        assert not changed[4:, 4:].any()
        flat = decoder(torch.zeros_like(fine), torch.zeros_like(body), torch.zeros_like(whole))
    assert flat.std((2, 3)).min() > 1e-3, "a pixel knows where it lies"
