"""Import: an ONNX file becomes a graph at the quantized level. Nothing of ONNX leaks past this package."""

from pefslc.frontend.importer import import_model

__all__ = ["import_model"]
