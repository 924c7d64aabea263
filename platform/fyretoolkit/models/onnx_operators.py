"""Which operators a stranger's graph may name: what ONNX defines, and of Microsoft's own a list of ours.

`com.microsoft` is where ONNX Runtime keeps what its optimizer writes: quantized and fused operators that any exporter
may leave in a file, but also ones that read files or programs (`EPContext`, `Snpe`), that decode whole texts, or that
exist for training. So they are named one by one; `session.allowed_ops` of the runtime itself is only a request.
Source: ONNX Runtime's ContribOperators.md; docs/SAFETY, 2.3.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

ONNX, ONNX_ML, MICROSOFT = "", "ai.onnx.ml", "com.microsoft"

HIGHEST_OPSET: Mapping[str, int] = MappingProxyType({ONNX: 26, ONNX_ML: 5, MICROSOFT: 1})
"""The newest version of each domain that the pinned ONNX Runtime serves. A test asks it."""
HIGHEST_IR_VERSION = 13

FILE_READERS = frozenset({"EPContext", "Snpe"})
"""What names or holds a compiled program, which a provider loads."""

_QUANTIZED = """
    DequantizeLinear DynamicQuantizeLSTM DynamicQuantizeMatMul GatherBlockQuantized MatMulBnb4 MatMulInteger16
    MatMulIntegerToFloat MatMulNBits MulInteger QAttention QEmbedLayerNormalization QGemm QLinearAdd
    QLinearAveragePool QLinearConcat QLinearConv QLinearGlobalAveragePool QLinearLeakyRelu QLinearMul
    QLinearReduceMean QLinearSigmoid QLinearSoftmax QLinearWhere QuantizeLinear ReduceSumInteger
"""
_TRANSFORMERS = """
    Attention BiasAdd BiasGelu BiasSoftmax BiasSplitGelu EmbedLayerNormalization FastGelu GatedRelativePositionBias
    Gelu GemmFastGelu GroupNorm GroupQueryAttention LongformerAttention MultiHeadAttention QuickGelu
    RelativePositionBias RotaryEmbedding SkipGroupNorm SkipLayerNormalization
    SkipSimplifiedLayerNormalization
"""
_FUSED = """
    CDist ComplexMul ComplexMulConj ConvTransposeWithDynamicPads ExpandDims FusedConv FusedGemm FusedMatMul
    FusedMatMulActivation GatherND GridSample Inverse Irfft MaxpoolWithMask MurmurHash3 NhwcConv NhwcFusedConv
    NhwcMaxPool Pad Range Rfft SparseToDenseMatMul TransposeMatMul Trilu Unique
"""
_TEXTS = "Tokenizer WordConvEmbedding"

ALLOWED_OF_MICROSOFT = frozenset(f"{_QUANTIZED} {_TRANSFORMERS} {_FUSED} {_TEXTS}".split())


def domain_of(written: str) -> str:
    """A domain as it is compared: ONNX's own has two names."""
    return ONNX if written == "ai.onnx" else written


def refusal_of(domain: str, operator: str) -> str | None:
    """Why a graph may not use this operator; None if it may, as far as its name tells."""
    shown = f"{domain}.{operator}"[-80:]
    if operator in FILE_READERS and domain != ONNX:
        return (
            f"The model holds {shown!r}, a program compiled for other hardware. "
            "Export it without an execution provider's context (ep.context_enable 0)."
        )
    if domain in (ONNX, ONNX_ML) or (domain == MICROSOFT and operator in ALLOWED_OF_MICROSOFT):
        return None
    return (
        f"The model uses the operator {shown!r}, which is not served. Export it with standard ONNX operators."
    )
