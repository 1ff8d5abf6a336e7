"""Few-shot learning on a small device: a network trained and quantized once, and classes that the device learns."""
