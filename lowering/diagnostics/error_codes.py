"""The stable codes of everything that pefslc refuses: the one list, each with its title.

A code names what the user has to change, not the line that noticed it: several checks share one. It never changes its
meaning and is never given again. docs/errors.md has a section for each; tests/errors holds the two together.
"""

from __future__ import annotations

from enum import Enum

__all__ = ["Code"]


class Code(Enum):
    """A code with its title. `CompileError(Code.ZERO_POINT, "zero point 3 ...")` shows as `error[PEF0303]: ...`."""

    def __init__(self, number: str, title: str) -> None:
        self.number = number
        self.title = title

    def __str__(self) -> str:
        return self.number

    # 01: the model file
    NO_SUCH_FILE = ("PEF0101", "there is no such file")
    UNREADABLE_FILE = ("PEF0102", "a file cannot be read")
    NOT_ONNX = ("PEF0103", "the file is not an ONNX model")
    DAMAGED_MODEL = ("PEF0104", "the model file is damaged")
    OPSET = ("PEF0105", "an opset or domain version is not supported")
    EXTERNAL_DATA = ("PEF0106", "a tensor is stored outside the model file")
    LYING_TENSOR = ("PEF0107", "a tensor's data does not fill its declared shape")
    MODEL_FUNCTION = ("PEF0108", "the model holds functions of its own")

    # 02: the graph, its inputs and outputs
    EMPTY_GRAPH = ("PEF0201", "the graph has no nodes or no outputs")
    CYCLE = ("PEF0202", "the graph has a cycle")
    DUPLICATE_NAME = ("PEF0203", "two tensors have one name")
    UNDEFINED_TENSOR = ("PEF0204", "a tensor is produced by no node")
    CONTROL_FLOW = ("PEF0205", "control flow")
    DYNAMIC_SHAPE = ("PEF0206", "the shape of an input is not fixed")
    INPUT_TYPE = ("PEF0207", "an input holds no numbers that are read")
    EMPTY_AXIS = ("PEF0208", "a tensor has an empty axis")
    TENSOR_TOO_LARGE = ("PEF0209", "a tensor is too large")
    OUTPUT_SHAPE = ("PEF0210", "an output's declared shape is not the computed one")
    CONSTANT_VALUE = ("PEF0211", "a constant is not a finite number")
    UNUSED_INPUT = ("PEF0212", "an input is read by nothing")
    CONSTANT_OUTPUT = ("PEF0213", "an output depends on no quantized input")
    GIVEN_SHAPE = ("PEF0214", "--batch or --input-shape does not suit the model")

    # 03: quantizers
    QUANTIZER_INPUTS = ("PEF0301", "a quantizer lacks an input")
    BIT_WIDTH = ("PEF0302", "a bit width is not supported")
    ZERO_POINT = ("PEF0303", "a zero point is not supported")
    SCALE_VALUE = ("PEF0304", "a scale is not a positive, finite, normal number")
    SCALE_SHAPE = ("PEF0305", "the shape of a scale is not supported")
    ROUNDING_MODE = ("PEF0306", "a rounding mode is not supported")
    QUANTIZER_FLAG = ("PEF0307", "signed or narrow is neither 0 nor 1")
    INPUT_NOT_QUANTIZED = ("PEF0308", "an input is not quantized")
    INPUT_QUANTIZED_TWICE = ("PEF0309", "an input has two different quantizers")
    NOT_QUANTIZED = ("PEF0310", "a tensor is not quantized where integers are needed")
    WEIGHT_NOT_QUANTIZED = ("PEF0311", "weights are not quantized")
    SCALE_PER_CHANNEL = ("PEF0312", "one scale per channel where one scale is needed")
    NO_COMMON_GRID = ("PEF0313", "scales have no common grid")
    TWO_BATCHNORMS = ("PEF0314", "two BatchNormalizations stand before one quantizer")

    # 04: operators
    UNSUPPORTED_OPERATOR = ("PEF0401", "an operator is not supported")
    UNSUPPORTED_ATTRIBUTE = ("PEF0402", "an attribute's value is not supported")
    ATTRIBUTE_TYPE = ("PEF0403", "an attribute has the wrong type")
    MISSING_OPERAND = ("PEF0404", "an operator lacks an input")
    COMPUTED_OPERAND = ("PEF0405", "a parameter is computed at run time")
    CONSTANT_OPERAND = ("PEF0406", "a constant where an activation is needed")
    UNSUPPORTED_SHAPE = ("PEF0407", "an operator does not support this shape")
    SHAPE_MISMATCH = ("PEF0408", "the shapes of an operator's inputs contradict each other")
    WINDOW = ("PEF0409", "a window does not fit its input")
    PARAMETER_VALUE = ("PEF0410", "a parameter has an impossible value")
    EXTRA_OUTPUT = ("PEF0411", "the second output of an operator is not supported")
    FUNCTION_VALUE = ("PEF0412", "a function has no value, or none that can be decided, for some code")

    # 05: formats and accumulators
    BAD_FORMAT = ("PEF0501", "that is not a format")
    FORMAT_CONTRADICTED = ("PEF0502", "the model contradicts --fmt or --formats")
    MODEL_NOT_QUANTIZED = ("PEF0503", "the model is not quantized")
    ACCUMULATOR_OVERFLOW = ("PEF0504", "a sum may overflow the accumulator")
    BEYOND_64_BITS = ("PEF0505", "numbers need more than 64 bits")
    BIAS_OFF_GRID = ("PEF0506", "a bias is on no grid of the accumulator")
    CODES_TOO_WIDE = ("PEF0507", "a quantizer of an activation is too wide")
    NOT_EXACT = ("PEF0508", "the result is bounded where --require-exact was given")
    CALIBRATION = ("PEF0509", "--fmt auto, its data and the model do not fit together")
    FORMATS = ("PEF0510", "formats by name are not written as they must be, or name what the model does not have")

    # 06: Tensil
    UNKNOWN_ARCHITECTURE = ("PEF0601", "there is no such architecture")
    BAD_ARCHITECTURE = ("PEF0602", "an architecture file is wrong")
    TCU_UNSUPPORTED = ("PEF0603", "the TCU lowering does not support this")
    TCU_WORD = ("PEF0604", "codes do not fit the words of the data type")
    TCU_NOT_EXACT = ("PEF0605", "no exact sequence of instructions was found")
    TCU_LOCAL_MEMORY = ("PEF0606", "the local memory is too small")
    TCU_ACCUMULATORS = ("PEF0607", "there are too few accumulators")
    TCU_DRAM0 = ("PEF0608", "DRAM0 is too small")
    TCU_DRAM1 = ("PEF0609", "DRAM1 is too small")
    TCU_PROGRAM = ("PEF0610", "a TCU program is not legal")
    TCU_MODEL_FILE = ("PEF0611", "a .tmodel or a file that it names is wrong")

    # 07: C
    NO_C_COMPILER = ("PEF0701", "there is no C compiler")
    C_TENSOR_TOO_LARGE = ("PEF0702", "a tensor is too large for the C target")
    C_UNSUPPORTED = ("PEF0703", "the C target does not support this")

    # 08: artifacts, and arrays given to them
    NOT_AN_ARTIFACT = ("PEF0801", "nothing that pefslc compiled")
    SEVERAL_ARTIFACTS = ("PEF0802", "several artifacts where one is needed")
    ARTIFACT_CHANGED = ("PEF0803", "an artifact is not as it was compiled")
    ARTIFACT_VERSION = ("PEF0804", "an artifact of another version")
    CANNOT_WRITE = ("PEF0805", "a file cannot be written")
    IN_THE_WAY = ("PEF0806", "a file is in the way")
    NOT_ARRAYS = ("PEF0807", "the file holds no arrays of numbers")
    ARRAYS_TOO_LARGE = ("PEF0808", "the arrays are too large")
    INPUT_ARRAY = ("PEF0809", "an input array does not suit the model")
    EXPECTED_ARRAY = ("PEF0810", "an expected output does not suit the model")
    DIFFERS = ("PEF0811", "verification found a difference")
    FOLDER_IN_USE = ("PEF0812", "another process writes into the folder")
    TOO_FAR = ("PEF0813", "outputs are further from the float model than --max-error allows")
    BOARD = ("PEF0814", "a board was not reached, or the self-test did not pass there")
    NOT_A_REPORT = ("PEF0816", "the file is no report of a model")

    # 09: targets, options, passes and plugins
    UNKNOWN_TARGET = ("PEF0901", "there is no such target")
    WRONG_OPTION = ("PEF0902", "an option does not suit the target")
    NO_SUCH_PLUGIN = ("PEF0903", "there is no such plugin")
    PLUGIN_UNUSABLE = ("PEF0904", "a plugin cannot be used")
    PLUGIN_FAILED = ("PEF0905", "a plugin failed")
    PLUGIN_REFUSES = ("PEF0906", "a plugin refuses the model")
    PASS_LEVEL = ("PEF0907", "a pass runs on the wrong level")
    IR_TEXT = ("PEF0908", "the text of a graph cannot be read")
    TARGET_FAILED = ("PEF0909", "a target that is not part of pefslc failed")

    # 10: torch networks (pefslc.train)
    NO_EXTRA = ("PEF1001", "torch and Brevitas are not installed")
    NOT_A_MODEL = ("PEF1002", "neither a model file nor a torch network")
    EXAMPLE = ("PEF1003", "an example does not suit the network")
    NETWORK_TYPE = ("PEF1004", "the network is not one of float32 on the CPU")
    NOT_CALIBRATED = ("PEF1005", "a quantizer is not calibrated")
    NOT_CONSTANT = ("PEF1006", "the network computes with changing scales, or by chance")
    NOT_EXPORTABLE = ("PEF1007", "the network cannot be exported")
    EXPORT_DIFFERS = ("PEF1008", "the exported file is another network")
    BATCHNORM_STAYS = ("PEF1009", "a BatchNorm cannot be folded")
    FORWARD = ("PEF1010", "a forward cannot be followed")
    TENSOR_FORMATS = ("PEF1011", "formats do not fit the network that is to be quantized")

    # 11: few-shot learning (pefslc.fewshot); 1101 to 1120 data, 1121 to 1140 head, 1141 to 1160 episodes and pictures,
    # 1161 to 1180 networks, 1181 to 1200 compiled systems
    NO_FEWSHOT_EXTRA = ("PEF1101", "a package of the extra fewshot is not installed")
    DATA_OPTION = ("PEF1102", "an option of the data is out of range")
    DATA_LAYOUT = ("PEF1103", "the data has none of the known layouts")
    DATA_FILE = ("PEF1104", "a file of the data is damaged, or contradicts itself")
    UNSAFE_FILE = ("PEF1105", "a file holds more than plain data")
    PICTURE = ("PEF1106", "a picture cannot be read")
    SPLIT_LIST = ("PEF1107", "a split list does not suit the data")
    CLASSES_OVERLAP = ("PEF1108", "a class is in two splits")
    CLASS_TOO_SMALL = ("PEF1109", "a class has too few pictures")
    HEAD_SPEC = ("PEF1121", "a classifier cannot be built of these numbers")
    HEAD_CODES = ("PEF1122", "feature codes do not suit the classifier")
    HEAD_CLASS = ("PEF1123", "the classifier has no such class or shot")
    HEAD_FULL = ("PEF1124", "the classifier counts no more shots, classes or devices")
    HEAD_THRESHOLD = ("PEF1125", "that is no threshold of the classifier")
    HEAD_NAME = ("PEF1126", "a class cannot have that name")
    STATE_DAMAGED = ("PEF1127", "a state file is damaged, or is none")
    STATE_FOREIGN = ("PEF1128", "a state belongs to another backbone or classifier")
    MERGED_TWICE = ("PEF1129", "the shots of one device would be counted twice")
    EPISODES = ("PEF1141", "episodes cannot be drawn")
    FEATURES = ("PEF1142", "features do not suit the episodes or the head")
    DEAD_NETWORK = ("PEF1143", "the features tell no classes apart")
    NOT_PAIRED = ("PEF1144", "results of different episodes are compared")
    INPUT_PICTURE = ("PEF1145", "a picture does not suit the model")
    BACKBONE = ("PEF1161", "there is no such backbone")
    TRAINING = ("PEF1162", "a training cannot be as asked")
    OTHER_TRAINING = ("PEF1163", "a checkpoint is not one of this training")
    WEIGHTS_FILE = ("PEF1164", "a file of weights does not fit the backbone")
    PRUNING = ("PEF1165", "channels cannot be pruned as asked")
    TRAINED_FILE = ("PEF1166", "a file is no trained backbone")
    BUDGET = ("PEF1167", "a budget of bits cannot be met, or is none")
    SYSTEM_BACKBONE = ("PEF1181", "a network cannot be the backbone of a few-shot system")
    NOT_A_SYSTEM = ("PEF1182", "the folder holds no few-shot system")
    NO_ENGINE = ("PEF1183", "a few-shot system cannot be run that way")
    NO_SHOTS = ("PEF1184", "there are no pictures to learn or to recognise")
    DEMO_PORT = ("PEF1185", "the demo page cannot be served at that port")
    DEMO_REQUEST = ("PEF1186", "a request is none of the demo page")

    # 12: sweeps over few-shot networks
    SWEEP = ("PEF1201", "a sweep or a measurement cannot be as asked")
    SWEEP_WORKER = ("PEF1202", "a worker of a sweep is lost, or not as the others")
    SWEEP_CELL = ("PEF1203", "networks of a sweep could not be measured")
