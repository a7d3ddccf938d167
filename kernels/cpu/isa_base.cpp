// Plain vector code: the x86-64 baseline, and any other processor.
#include <stddef.h>
#include <stdint.h>

#define MMVIM_ISA base
#define MMVIM_VECTOR_BYTES 16
#include "all.inl"
