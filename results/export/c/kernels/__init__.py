"""The kernels that exported C code calls: `ts_port.h`, `ts_kernels.h` and `ts_kernels.c`, the same for every model."""
