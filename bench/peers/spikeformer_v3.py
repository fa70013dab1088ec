"""The base network of Spike-driven Transformer V3 (E-SpikeFormer) in PyTorch, for peer_pytorch.py: integers 0..D in one time step.

Written from the description of arXiv 2411.16061; modules have the names of the published state dict.
"""
import torch
import torch.nn as nn


class Quant(nn.Module):
    """round(clip(x, 0, D)) / norm, half to even. Inference only: no surrogate."""

    def __init__(self, norm=4.0, levels=4):
        super().__init__()
        self.norm, self.levels = norm, levels

    def forward(self, x):
        return torch.round(torch.clamp(x, 0, self.levels)) / self.norm


def conv_bn(i, o, k=1, groups=1):
    return nn.Sequential(nn.Conv2d(i, o, k, padding=k // 2, groups=groups, bias=False), nn.BatchNorm2d(o))


class Downsampling(nn.Module):
    def __init__(self, i, o, k, stride, padding, first=False):
        super().__init__()
        self.encode_conv, self.encode_bn = nn.Conv2d(i, o, k, stride, padding), nn.BatchNorm2d(o)
        self.encode_spike = None if first else Quant()

    def forward(self, x):
        return self.encode_bn(self.encode_conv(x if self.encode_spike is None else self.encode_spike(x)))


class SepConv(nn.Module):
    def __init__(self, c, k):
        super().__init__()
        self.spike1, self.spike2, self.spike3 = Quant(), Quant(), Quant()
        self.pwconv1, self.dwconv, self.pwconv2 = conv_bn(c, 2 * c), conv_bn(2 * c, 2 * c, k, 2 * c), conv_bn(2 * c, c)

    def forward(self, x):
        return self.pwconv2(self.spike3(self.dwconv(self.spike2(self.pwconv1(self.spike1(x))))))


class ConvBlock(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.Conv, self.spike1, self.spike2 = SepConv(c, 7), Quant(), Quant()
        self.conv1, self.bn1 = nn.Conv2d(c, 4 * c, 3, padding=1, bias=False), nn.BatchNorm2d(4 * c)
        self.conv2, self.bn2 = nn.Conv2d(4 * c, c, 3, padding=1, bias=False), nn.BatchNorm2d(c)

    def forward(self, x):
        x = x + self.Conv(x)
        return x + self.bn2(self.conv2(self.spike2(self.bn1(self.conv1(self.spike1(x))))))


class Attention(nn.Module):
    def __init__(self, c, heads=8):
        super().__init__()
        self.heads, self.scale = heads, 2 * (c // heads) ** -0.5
        self.head_spike, self.q_spike, self.k_spike, self.v_spike, self.attn_spike = (Quant() for _ in range(5))
        self.q_conv, self.k_conv, self.v_conv, self.proj_conv = conv_bn(c, c), conv_bn(c, c), conv_bn(c, 4 * c), conv_bn(4 * c, c)

    def split(self, x):
        return x.flatten(2).unflatten(1, (self.heads, -1)).transpose(2, 3)

    def forward(self, x):
        b, _, h, w = x.shape
        s = self.head_spike(x)
        q, k, v = (self.split(t) for t in (self.q_spike(self.q_conv(s)), self.k_spike(self.k_conv(s)), self.v_spike(self.v_conv(s))))
        y = (q @ k.transpose(-2, -1)) @ v * self.scale
        return self.proj_conv(self.attn_spike(y.transpose(2, 3).reshape(b, -1, h, w)))


class MLP(nn.Module):
    def __init__(self, c, ratio=4):
        super().__init__()
        self.fc1_spike, self.fc2_spike = Quant(), Quant()
        self.fc1_conv, self.fc1_bn = nn.Conv1d(c, ratio * c, 1), nn.BatchNorm1d(ratio * c)
        self.fc2_conv, self.fc2_bn = nn.Conv1d(ratio * c, c, 1), nn.BatchNorm1d(c)

    def forward(self, x):
        y = self.fc2_spike(self.fc1_bn(self.fc1_conv(self.fc1_spike(x.flatten(2)))))
        return self.fc2_bn(self.fc2_conv(y)).view(x.shape)


class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.conv, self.attn, self.mlp = SepConv(c, 3), Attention(c), MLP(c)

    def forward(self, x):
        x = x + self.conv(x)
        x = x + self.attn(x)
        return x + self.mlp(x)


class SpikeFormerV3(nn.Module):
    def __init__(self, dims, classes=1000):
        super().__init__()
        c1, c2, c3, c4 = dims
        self.downsample1_1 = Downsampling(3, c1 // 2, 7, 2, 3, first=True)
        self.ConvBlock1_1 = nn.ModuleList([ConvBlock(c1 // 2)])
        self.downsample1_2 = Downsampling(c1 // 2, c1, 3, 2, 1)
        self.ConvBlock1_2 = nn.ModuleList([ConvBlock(c1)])
        self.downsample2 = Downsampling(c1, c2, 3, 2, 1)
        self.ConvBlock2_1, self.ConvBlock2_2 = nn.ModuleList([ConvBlock(c2)]), nn.ModuleList([ConvBlock(c2)])
        self.downsample3 = Downsampling(c2, c3, 3, 2, 1)
        self.block3 = nn.ModuleList([Block(c3) for _ in range(6)])
        self.downsample4 = Downsampling(c3, c4, 3, 1, 1)
        self.block4 = nn.ModuleList([Block(c4) for _ in range(2)])
        self.spike, self.head = Quant(norm=1.0), nn.Linear(c4, classes)

    def forward(self, x):
        stages = [self.downsample1_1, *self.ConvBlock1_1, self.downsample1_2, *self.ConvBlock1_2, self.downsample2, *self.ConvBlock2_1,
                  *self.ConvBlock2_2, self.downsample3, *self.block3, self.downsample4, *self.block4]
        for stage in stages:
            x = stage(x)
        return self.head(self.spike(x.mean((2, 3))))
