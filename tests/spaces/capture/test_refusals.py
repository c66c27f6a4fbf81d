"""What cannot be told of is refused in one line that names it and a way out."""

from threading import Lock

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from written_nets import SHAPE, Block, Headed, as_map, tokens

from tinysearch.core.errors import UnsupportedError
from tinysearch.spaces.trace import trace


def branches(m, x):
    return x if x.sum() > 0 else -x


def takes_out(m, x):
    return x * x.mean().item()


def counts_images(m, x):
    return x if x.shape[0] % 2 else -x


def loops_over_images(m, x):
    return torch.stack([image * 2 for image in x])


def several(m, x):
    values, places = x.max(1, keepdim=True)
    return x * values + places


def gradients_off(m, x):
    with torch.no_grad():
        return x * 2


def autocast(m, x):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return x @ x.mT


def assigns(m, x):
    x[:, 1:] = 0
    return x


def converts(m, x):
    return torch.tensor(x) * 2


def hooked():
    conv = nn.Conv2d(8, 8, 1)
    conv.register_forward_hook(lambda module, args, output: output * 2)
    return conv


def tells_one_image(m, x):
    return x if x.shape[0] == 1 else -x


def tells_many_images(m, x):
    return x * min(x.shape[0], 4)


def adds_to_an_alias(m, x):
    x = x + 0
    y = x
    y += m.conv(x)
    return x


def attends_masked(m, x):
    x = tokens(x)
    return as_map(m.attention(x, x, x, attn_mask=torch.eye(64).bool())[0])


def raises(m, x):
    raise KeyError("no such\nthing")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (Block(branches), r"body of Headed branches on values of tensors.*use torch\.where"),
        (Block(takes_out), r"body of Headed takes values out of tensors by item\(\).*use tensors"),
        (Block(counts_images), "body of Headed depends on the number of images"),
        (Block(loops_over_images), "body of Headed depends on the number of images"),
        (Block(several), r"max_1 \(max\) gives several tensors at once.*write the operation out"),
        (Block(gradients_off), "body of Headed switches gradients off"),
        (Block(autocast), "body of Headed runs a part in autocast"),
        (Block(assigns), "body of Headed assigns to a part of a tensor"),
        (Block(converts), r"body of Headed cannot be traced by torch\.fx"),
        (Block(lambda m, x: x.detach()), "body of Headed lets no gradient pass by detach"),
        (Block(lambda m, x: x.topk(8, 1).values), r"topk \(topk\) gives several tensors at once"),
        (Block(lambda m, x: x[x > 0].mean() * x), "makes a tensor of shape .* which is not so much for each"),
        (torch.jit.script(nn.Conv2d(8, 8, 1)), "body is TorchScript, whose code cannot be seen"),
        (nn.LazyConv2d(8, 1), "body has no shapes yet, as it is lazy"),
        (nn.Conv2d(8, 8, 1, device="meta"), "body is on the meta device"),
        (nn.utils.weight_norm(nn.Conv2d(8, 8, 1)), "body has hooks, .*remove_weight_norm"),
        (Block(lambda m, x: x, lock=Lock()), r"Headed cannot be copied \(TypeError: cannot pickle"),
        (Block(tells_one_image), "Headed answers otherwise to 1 images"),
        (Block(tells_many_images), "Headed answers otherwise to 7 images"),
        (
            Block(adds_to_an_alias, conv=nn.Conv2d(8, 8, 1)),
            "Headed answers otherwise .* tensors that others read",
        ),
        (Block(attends_masked, attention=nn.MultiheadAttention(8, 2, batch_first=True)), "attends with a mask"),
        (Block(lambda m, x: torch.detach(x)), "body of Headed lets no gradient pass by detach"),
        (Block(lambda m, x: F.dropout2d(x, 0.5, m.training)), "dropout2d drops in a way that no train"),
        (Block(lambda m, x: F.dropout(x, 0.5, True)), "dropout drops in evaluation too"),
        (Block(lambda m, x: torch.fft.fft2(x).abs()), "fft_fft2 makes complex numbers"),
        (hooked(), "body has hooks, which an applied layer would not run"),
        (Block(raises), r"body of Headed does not run on an input of shape \(3, 8, 8\): KeyError"),
        (
            nn.Sequential(nn.Flatten(), nn.Linear(9, 8)),
            r"body\.1 of Headed does not run on an input of shape \(3, 8, 8\)",
        ),
        (nn.Sequential(nn.InstanceNorm2d(8, track_running_stats=True)), r"body\.0 is a InstanceNorm2d"),
        (
            Block(lambda m, x: m.cell(tokens(x))[0].mT, cell=nn.LSTM(8, 8, batch_first=True)),
            r"body\.cell \(lstm\) gives several",
        ),
        (nn.Dropout2d(0.5), "body is a Dropout2d: use nn.Dropout"),
        (
            Block(lambda m, x: torch.tensor(m.conv(x).numpy()), conv=nn.Conv2d(8, 8, 1)),
            "takes values out of tensors",
        ),
        (Block(lambda m, x: m.conv(m.conv(x)), conv=nn.Conv2d(8, 8, 1)), "body.conv is called twice"),
    ],
)
def test_what_cannot_be_told_of_is_refused_in_one_line_with_a_way_out(body: nn.Module, said: str) -> None:
    with pytest.raises(UnsupportedError, match=said) as caught:
        trace(Headed(body).eval(), SHAPE)
    assert "\n" not in str(caught.value)
