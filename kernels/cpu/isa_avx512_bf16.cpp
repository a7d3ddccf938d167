// AVX-512 with sums of products of pairs of bfloat16.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 12
// System headers come before the pragma: nothing inline of theirs may be compiled with it.
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#pragma GCC target("avx512bf16,avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,bmi,bmi2,prefer-vector-width=512")
#define MMVIM_ISA avx512_bf16
#define MMVIM_VECTOR_BYTES 64
#define MMVIM_AVX512
#define MMVIM_AVX512_BF16
#include "all.inl"
#endif
