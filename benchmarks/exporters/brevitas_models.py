"""Brevitas: its example networks, its default quantizers and its post-training flow, as its exporters write them.

Weights are random; norms and scales are those of random pictures. Where an example takes pictures of 224 x 224, it gets
smaller ones, and the mean over 7 x 7 at the end a smaller window.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from field_model import FieldModel

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["NEEDS", "models"]

NEEDS: tuple[str, ...] = ("torch", "brevitas", "brevitas_examples", "onnxoptimizer", "onnxscript", "tqdm")

# How it is exported: the name in the table, the function of brevitas.export, its arguments.
_QONNX = ("export_qonnx", "export_qonnx", {"dynamo": True})
_QONNX_SCRIPT = ("export_qonnx, torchscript", "export_qonnx", {"dynamo": False, "opset_version": 13})
_QCDQ = ("export_onnx_qcdq", "export_onnx_qcdq", {"dynamo": True})
_QCDQ_SCRIPT = ("export_onnx_qcdq, torchscript", "export_onnx_qcdq", {"dynamo": False, "opset_version": 13})
_ALL = (_QONNX, _QONNX_SCRIPT, _QCDQ, _QCDQ_SCRIPT)
# Brevitas' dynamo exporters add no quantized tensors, and its QCDQ has no quantized biases there.
_SCRIPT = (_QONNX_SCRIPT, _QCDQ_SCRIPT)
_Export = tuple[str, str, dict[str, object]]
# Without a quantizer of the input, which gets the format of bytes / 256.
_OPEN = ("resnet18", "mobilenet_v1", "proxylessnas", "vgg")
_Network = Callable[[], tuple["nn.Module", "Tensor"]]  # in eval mode, and pictures


def models() -> list[FieldModel]:
    """Every network in the exports that can write it: Brevitas' QCDQ has no 1-bit quantizers."""
    listed: list[tuple[str, _Network, Sequence[_Export]]] = [
        *(
            (f"{family}_{bits}", partial(_bnn_pynq, f"{family}_{bits}"), exports)
            for family in ("tfc", "sfc", "lfc", "cnv")
            for bits, exports in (("1w1a", _ALL[:2]), ("1w2a", _ALL[:2]), ("2w2a", _ALL))
            if (family, bits) != ("lfc", "2w2a")
        ),
        ("resnet18_4w4a", partial(_bnn_pynq, "resnet18_4w4a"), _SCRIPT),
        ("mobilenet_v1_4b", partial(_imagenet, "quant_mobilenet_v1_4b"), _ALL[:2]),
        ("mobilenet_v1_4b_round_avgpool", partial(_imagenet, "quant_mobilenet_v1_4b_round_avgpool"), (_QCDQ_SCRIPT,)),
        ("proxylessnas_mobile14_4b", partial(_imagenet, "quant_proxylessnas_mobile14_4b"), (_QONNX,)),
        ("proxylessnas_mobile14_4b5b", partial(_imagenet, "quant_proxylessnas_mobile14_4b5b"), (_QONNX_SCRIPT,)),
        (
            "proxylessnas_mobile14_4b_round_avgpool",
            partial(_imagenet, "quant_proxylessnas_mobile14_4b_round_avgpool"),
            (_QCDQ_SCRIPT,),
        ),
        ("vgg11_bn", _vgg, (_QONNX, _QCDQ)),
        ("resnet18_w4a4_a2q_16", _a2q_resnet, (_QONNX_SCRIPT,)),
        ("espcn_x2_w8a8", partial(_espcn, "quant_espcn_x2_w8a8_base"), (_QONNX, _QCDQ)),
        ("espcn_x2_w4a4_a2q_13", partial(_espcn, "quant_espcn_x2_w4a4_a2q_13b"), (_QONNX,)),
        *((f"defaults_{name}", partial(_defaults, name), (_QONNX, _QCDQ)) for name in _DEFAULTS),
        *((f"defaults_{name}", partial(_defaults, name), (_QONNX,)) for name in _DEFAULTS_OF_QONNX),
        *((f"defaults_{name}", partial(_defaults, name), (_QONNX, _QCDQ_SCRIPT)) for name in _DEFAULTS_WITH_BIAS),
        *((f"ptq_{name}", partial(_post_training, name), _SCRIPT) for name in _FLOWS),
    ]
    return [
        FieldModel(
            f"brevitas {label}",
            name + suffix,
            partial(_write, name + suffix, network, function, arguments),
            {"input_fmt": "UQ0.8"} if name.startswith(_OPEN) else {},
        )
        for name, network, exports in listed
        for label, function, arguments in exports
        for suffix in [f"_{function.rpartition('_')[2]}{'' if arguments['dynamo'] else '_script'}"]
    ]


def _write(name: str, network: _Network, function: str, arguments: dict[str, object], folder: Path) -> None:
    """The file, and what torch computes in float32 for the pictures."""
    import brevitas.export
    import numpy as np
    import torch

    from exporters.exact_evaluation import write_definition

    torch.manual_seed(0)
    net, x = network()
    with torch.no_grad():
        expected = net(x)
    expected = getattr(expected, "value", expected)
    path = folder / f"{name}.onnx"
    getattr(brevitas.export, function)(
        net, args=x[:1], export_path=str(path), input_names=["x"], output_names=["y"], **arguments
    )
    np.savez(path.with_suffix(".npz"), x=x.numpy(), y=expected.detach().numpy())
    write_definition(path)


def _bnn_pynq(name: str) -> tuple[nn.Module, Tensor]:
    """TFC, SFC and LFC read MNIST, CNV and ResNet18 CIFAR10."""
    from brevitas_examples.bnn_pynq.models import model_with_cfg

    from exporters.torch_networks import pictures, settle

    net, _ = model_with_cfg(name, pretrained=False)
    x = pictures(4, 1, 28, 28) if "fc_" in name else pictures(4, 3, 32, 32)
    return settle(net, x.repeat(8, 1, 1, 1)), x


def _imagenet(name: str) -> tuple[nn.Module, Tensor]:
    from brevitas_examples.imagenet_classification.models import model_with_cfg

    from exporters.torch_networks import pictures, settle

    net, _ = model_with_cfg(name)
    net.final_pool.kernel_size = 3
    x = pictures(2, 3, 96, 96)
    return settle(net, x.repeat(2, 1, 1, 1)), x


def _vgg() -> tuple[nn.Module, Tensor]:
    """The features of VGG11 with norms, and one layer behind them: with its three, a file of 500 MB."""
    import brevitas.nn as qnn
    import torch
    from brevitas_examples.imagenet_classification.models import quant_vgg11_bn

    from exporters.torch_networks import pictures, settle

    whole = quant_vgg11_bn(bit_width=4)
    net = torch.nn.Sequential(
        whole.features, qnn.TruncAvgPool2d(2, 1, bit_width=4), torch.nn.Flatten(1), qnn.QuantLinear(512, 10, True)
    )
    x = pictures(2, 3, 64, 64)
    return settle(net, x), x


def _a2q_resnet() -> tuple[nn.Module, Tensor]:
    from brevitas.quant import Int8AccumulatorAwareWeightQuant
    from brevitas_examples.imagenet_classification.a2q.resnet import quant_resnet18

    from exporters.torch_networks import pictures, settle

    net = quant_resnet18(10, 4, 16, 4, Int8AccumulatorAwareWeightQuant)
    x = pictures(2, 3, 32, 32)
    return settle(net, x), x


def _espcn(name: str) -> tuple[nn.Module, Tensor]:
    from brevitas_examples.super_resolution.models import get_model_by_name

    from exporters.torch_networks import pictures, settle

    net = get_model_by_name(name)
    x = pictures(2, 3, 16, 16)
    return settle(net, x), x


_DEFAULTS = ("tensor", "channel", "shifted_weights", "fixed_point", "ternary", "leaky", "transposed")
# Brevitas' QCDQ does not write weights that depend on the accumulator's bits, or are decoupled from their norms.
_DEFAULTS_OF_QONNX = ("decoupled", "accumulator_aware", "accumulator_aware_plus")
_DEFAULTS_WITH_BIAS = ("int32_bias", "int8_bias", "shifted")


def _defaults(name: str) -> tuple[nn.Module, Tensor]:
    """A small network of Brevitas' layers as its tutorials write them, with one quantizer or layer changed."""
    import brevitas.nn as qnn
    import brevitas.quant as quant
    from torch import nn

    from exporters.torch_networks import pictures, settle

    layer: dict[str, object] = {"weight_quant": quant.Int8WeightPerTensorFloat, "bias": True}
    inputs: dict[str, object] = {"act_quant": quant.Int8ActPerTensorFloat, "return_quant_tensor": True}
    relu: dict[str, object] = {"act_quant": quant.Uint8ActPerTensorFloat, "return_quant_tensor": True}
    match name:
        case "channel":
            layer["weight_quant"] = quant.Int8WeightPerChannelFloat
        case "int32_bias":
            layer |= {"weight_quant": quant.Int8WeightPerChannelFloat, "bias_quant": quant.Int32Bias}
        case "int8_bias":
            layer["bias_quant"] = quant.Int8BiasPerTensorFloatInternalScaling
        case "shifted":
            inputs["act_quant"] = relu["act_quant"] = quant.ShiftedUint8ActPerTensorFloat
            layer["bias_quant"] = quant.Int32Bias
        case "shifted_weights":
            layer["weight_quant"] = quant.ShiftedUint8WeightPerChannelFloat
        case "fixed_point":
            layer["weight_quant"] = quant.Int8WeightPerTensorFixedPoint
            inputs["act_quant"] = quant.Int8ActPerTensorFixedPoint
            relu["act_quant"] = quant.Uint8ActPerTensorFixedPoint
        case "decoupled":
            layer["weight_quant"] = quant.Int8WeightPerChannelFloatDecoupled
        case "accumulator_aware":
            layer |= {"weight_quant": quant.Int8AccumulatorAwareWeightQuant, "weight_accumulator_bit_width": 16}
        case "accumulator_aware_plus":
            layer |= {
                "weight_quant": quant.Int8AccumulatorAwareZeroCenterWeightQuant,
                "weight_accumulator_bit_width": 16,
            }
        case "ternary":
            layer["weight_quant"] = quant.SignedTernaryWeightPerTensorConst
            layer["weight_scaling_init"] = 0.1

    def activation() -> nn.Module:
        if name == "leaky":
            return nn.Sequential(nn.LeakyReLU(0.1), qnn.QuantIdentity(**inputs))
        return qnn.QuantReLU(**relu)

    middle = [qnn.QuantConv2d(16, 16, 3, padding=1, groups=16, **layer), activation()]
    if name == "transposed":
        middle = [qnn.QuantConvTranspose2d(16, 16, 2, stride=2, **layer), activation()]
    size = 4 if name == "transposed" else 2
    net = nn.Sequential(
        qnn.QuantIdentity(**inputs),
        qnn.QuantConv2d(3, 16, 3, padding=1, **layer),
        nn.BatchNorm2d(16),
        activation(),
        nn.MaxPool2d(2),
        *middle,
        qnn.TruncAvgPool2d(2, float_to_int_impl_type="ROUND")
        if name not in ("leaky", "shifted")
        else nn.Sequential(nn.AvgPool2d(2), qnn.QuantIdentity(**inputs)),
        nn.Flatten(1),
        qnn.QuantLinear(16 * size * size, 10, **layer),
    )
    x = 2 * pictures(4, 3, 8, 8) - 1
    return settle(net, x), x


_FLOWS = (
    "resnet", "resnet_layerwise", "resnet_flexml", "resnet_fx_asym", "resnet_fx_pot", "mobilenet", "mobilenet_flexml",
    "unet", "unet_layerwise", "kws", "resnet_gptq",
)  # fmt: skip


def _post_training(name: str) -> tuple[nn.Module, Tensor]:
    """brevitas.graph.quantize and the flows of brevitas_examples' ptq on networks of torch."""
    import torch
    from brevitas.graph.calibrate import bias_correction_mode, calibration_mode
    from brevitas.graph.gptq import gptq_mode
    from brevitas.graph.quantize import preprocess_for_quantize, quantize
    from brevitas.graph.target.flexml import preprocess_for_flexml_quantize
    from brevitas_examples.imagenet_classification.ptq.ptq_common import quantize_model

    from exporters import torch_networks as networks

    kind, _, flow = name.partition("_")
    network = {
        "resnet": networks.ResNet,
        "mobilenet": networks.MobileNet,
        "unet": networks.UNet,
        "kws": networks.DepthwiseNet,
    }[kind]
    x = networks.pictures(4, *((1, 49, 10) if kind == "kws" else (3, 32, 32)))
    net = networks.settle(network(), x)
    if flow == "flexml":
        net = preprocess_for_flexml_quantize(net, x, equalize_iters=20)
    else:
        net = preprocess_for_quantize(net, equalize_iters=20)
    if flow in ("", "gptq"):
        net = quantize(net)
    else:
        net = quantize_model(
            net,
            {"layerwise": "layerwise", "flexml": "flexml"}.get(flow, "fx"),
            weight_bit_width=8,
            act_bit_width=8,
            bias_bit_width=32,
            weight_quant_granularity="per_channel",
            act_quant_percentile=99.9,
            act_quant_type="asym" if flow == "fx_asym" else "sym",
            scale_factor_type="po2_scale" if flow == "fx_pot" else "float_scale",
            quant_format="int",
        )
    net.eval()
    with torch.no_grad():
        with calibration_mode(net):
            net(x)
        if flow == "gptq":
            with gptq_mode(net, act_order=True) as mode:
                for _ in range(mode.num_layers):
                    mode.model(x)
                    mode.update()
        with bias_correction_mode(net):
            net(x)
    return net.eval(), x
