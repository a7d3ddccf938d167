// AVX2 with FMA and F16C.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
// System headers come before the pragma: nothing inline of theirs may be compiled with it.
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#pragma GCC target("avx2,fma,f16c,bmi,bmi2")
#define MMVIM_ISA avx2
#define MMVIM_VECTOR_BYTES 32
#define MMVIM_AVX2
#include "all.inl"
#endif
