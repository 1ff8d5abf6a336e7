"""Import: an ONNX file becomes a graph at the quantized level. Nothing of ONNX leaks past this package."""

from pefslc.frontend.external_data import MOST_DATA_BYTES
from pefslc.frontend.given_shapes import NOTHING_GIVEN, GivenShapes
from pefslc.frontend.importer import Imported, import_model, survey_model

__all__ = ["MOST_DATA_BYTES", "NOTHING_GIVEN", "GivenShapes", "Imported", "import_model", "survey_model"]
