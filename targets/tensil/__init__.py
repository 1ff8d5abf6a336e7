"""The Tensil Compute Unit: machine model and lowering.

"spec N" in these modules means section N of the project's notes on the machine, which were measured on Tensil's
emulator and on the RTL: 2 encoding, 3 semantics, 4 numbers, 5 hardware timing and hazards, 7 files, 9 drivers.
"""
