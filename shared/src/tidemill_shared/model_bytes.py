"""What the bytes of an ONNX model ask of a runtime, looked at before a runtime parses them.

A minimal reader of the protobuf wire format over https://github.com/onnx/onnx/blob/main/onnx/onnx.proto, so that a
service that only runs models needs no library that builds them. It is stricter than any parser behind it: whatever two
parsers might read in two ways is refused.
"""

import re
from collections.abc import Iterator

from tidemill_shared.errors import Poison

MAX_NODES = 100_000
_OPERATORS = """
Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh Attention AveragePool BatchNormalization BitShift BitwiseAnd
BitwiseNot BitwiseOr BitwiseXor Cast CastLike Ceil Celu CenterCropPad Clip Compress Concat Constant ConstantOfShape Conv
ConvInteger ConvTranspose Cos Cosh CumSum DepthToSpace DequantizeLinear Det Div DynamicQuantizeLinear Einsum Elu Equal
Erf Exp Expand EyeLike Flatten Floor GRU Gather GatherElements GatherND Gelu Gemm GlobalAveragePool GlobalMaxPool
Greater GreaterOrEqual GroupNormalization HardSigmoid HardSwish Hardmax Identity InstanceNormalization IsInf IsNaN LRN
LSTM LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax LpNormalization LpPool MatMul MatMulInteger Max
MaxPool Mean MeanVarianceNormalization Min Mish Mod Mul Neg NonZero Not OneHot Or PRelu Pad Pow QLinearConv
QLinearMatMul QuantizeLinear RMSNormalization RNN Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp
ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize Round ScatterElements ScatterND
Selu Shape Shrink Sigmoid Sign Sin Sinh Size Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze
StringConcat StringNormalizer StringSplit Sub Sum Tan Tanh TfIdfVectorizer ThresholdedRelu Tile TopK Transpose Trilu
Unique Unsqueeze Where Xor
"""
_ML_OPERATORS = """
ArrayFeatureExtractor Binarizer CategoryMapper FeatureVectorizer Imputer LabelEncoder LinearClassifier LinearRegressor
Normalizer OneHotEncoder SVMClassifier SVMRegressor Scaler TreeEnsemble TreeEnsembleClassifier TreeEnsembleRegressor
"""
ALLOWED = {"": frozenset(_OPERATORS.split()), "ai.onnx.ml": frozenset(_ML_OPERATORS.split())}
"""Operators by domain: functions of their inputs alone. Not among them: what loops, branches, draws at random, decodes
media, or comes from a library beside the runtime (a foreign domain)."""
ALLOWED["ai.onnx"] = ALLOWED[""]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_GRAPH, _TRAINING, _FUNCTIONS = 7, 20, 25  # of ModelProto
_NODE, _INITIALIZER, _SPARSE_INITIALIZER = 1, 5, 15  # of GraphProto
_OP_TYPE, _ATTRIBUTE, _DOMAIN = 4, 5, 7  # of NodeProto
_ONE_TENSOR, _TENSORS, _ONE_GRAPH, _GRAPHS, _SPARSE = 5, 10, 6, 11, (22, 23)  # of AttributeProto
_EXTERNAL, _LOCATION = 13, 14  # of TensorProto
_RUNS = re.compile(
    rb"(?:\x3d.{4})+|(?:\x40[\x80-\xff]{0,9}[\x00-\x7f])+|(?:\x4a(?:\x0a.{10}|\x0b.{11}|\x04.{4}))+", re.DOTALL
)
"""Repeated floats, integers and short strings of an attribute: the millions of numbers of a forest, skipped at once."""
Value = int | memoryview


class UnsafeModel(Poison):
    """A model asks for what no model of ours needs; the message says what."""

    def __init__(self, message: str) -> None:
        super().__init__("unsafe_model", message)


def check_model(data: bytes) -> None:
    """Raises UnsafeModel for bytes that are no plain ONNX model of allowed operators with all its data inside."""
    if data[4:8] == b"ORTM":
        raise UnsafeModel("the bytes are in the runtime's own format, not ONNX")
    nodes = graphs = 0
    for field, value in _fields(memoryview(data)):
        if field in (_TRAINING, _FUNCTIONS):
            raise UnsafeModel("the model holds functions or a training graph")
        if field == _GRAPH:
            graphs += 1
            nodes += _check_graph(_message(value))
    if graphs != 1 or not nodes:
        raise UnsafeModel(f"the model holds {graphs} graphs with {nodes} nodes in all; one graph of some is needed")


def _check_graph(graph: memoryview) -> int:
    nodes = 0
    for field, value in _fields(graph):
        if field == _NODE:
            nodes += 1
            if nodes > MAX_NODES:
                raise UnsafeModel(f"the graph has more than {MAX_NODES} nodes")
            _check_node(_message(value))
        elif field == _INITIALIZER:
            _check_tensor(_message(value))
        elif field == _SPARSE_INITIALIZER:
            raise UnsafeModel("the graph holds sparse tensors")
    return nodes


def _check_node(node: memoryview) -> None:
    names: dict[int, str] = {}
    for field, value in _fields(node):
        if field in (_OP_TYPE, _DOMAIN):
            if field in names:
                raise UnsafeModel("a node has two operators")
            names[field] = bytes(_message(value)).decode(errors="replace")
        elif field == _ATTRIBUTE:
            _check_attribute(_message(value))
    operator, domain = names.get(_OP_TYPE, ""), names.get(_DOMAIN, "")
    if operator not in ALLOWED.get(domain, ()):
        raise UnsafeModel(f"the operator {domain[:40]}:{operator[:60]} is not allowed")


def _check_attribute(attribute: memoryview) -> None:
    for field, value in _fields(attribute):
        if field in (_ONE_TENSOR, _TENSORS):
            _check_tensor(_message(value))
        elif field in (_ONE_GRAPH, _GRAPHS, *_SPARSE):
            raise UnsafeModel("a node holds a graph or a sparse tensor of its own")


def _check_tensor(tensor: memoryview) -> None:
    for field, value in _fields(tensor):
        if field == _EXTERNAL or (field == _LOCATION and value != 0):
            raise UnsafeModel("a tensor's data lies outside the model")


def _message(value: Value) -> memoryview:
    if isinstance(value, int):
        raise UnsafeModel("the bytes are not a model: a number where a message belongs")
    return value


def _fields(data: memoryview) -> Iterator[tuple[int, Value]]:
    """Number and value of each field of a message; runs of an attribute's numbers are left out."""
    at, end = 0, len(data)
    while at < end:
        run = _RUNS.match(data, at)
        if run:
            at = run.end()
            continue
        tag, at = _varint(data, at, 4)  # longer ones, which name no field of ONNX, are cut off by some parsers
        kind, field = tag & 7, tag >> 3
        if kind == _VARINT:
            number, at = _varint(data, at, 10)
            yield field, number
            continue
        if kind == _BYTES:
            size, at = _varint(data, at, 5)
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
        else:
            raise UnsafeModel("the bytes are not a model: an unknown kind of field")
        if not field or size > end - at:
            raise UnsafeModel("the bytes are not a model: a field goes beyond its message")
        if kind == _BYTES:
            yield field, data[at : at + size]
        at += size


def _varint(data: memoryview, at: int, longest: int) -> tuple[int, int]:
    number = shift = 0
    for byte in data[at : at + longest]:
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7
    raise UnsafeModel("the bytes are not a model: a number does not end")
