// Memory types, and the functions of kernels in base 2: what the special-function unit computes, without fast-math flags.
//
// delta is kept as dt2 = delta log2 e, so that a decay exp(delta A) is 2^(dt2 A) and softplus needs no factor.
#pragma once
#include <math.h>

#include "../core/math.h"
#include "runtime.h"

namespace mmvim::cuda {

constexpr float kLn2f = 0.693147181f;

// ---- memory types -----------------------------------------------------------------------------------------------------

MMVIM_HD float to_float(float x) { return x; }
MMVIM_HD float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }
MMVIM_HD float to_float(__half x) { return __half2float(x); }

MMVIM_HD void store(float* p, float x) { *p = x; }
MMVIM_HD void store(__nv_bfloat16* p, float x) { *p = __float2bfloat16_rn(x); }
MMVIM_HD void store(__half* p, float x) { *p = __float2half_rn(x); }

// Two neighbours at once; `p` must be aligned to both.
MMVIM_HD float2 load_pair(const float* p) { return *reinterpret_cast<const float2*>(p); }
MMVIM_HD float2 load_pair(const __nv_bfloat16* p) { return __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(p)); }
MMVIM_HD float2 load_pair(const __half* p) { return __half22float2(*reinterpret_cast<const __half2*>(p)); }

MMVIM_HD void store_pair(float* p, float x, float y) { *reinterpret_cast<float2*>(p) = make_float2(x, y); }
MMVIM_HD void store_pair(__nv_bfloat16* p, float x, float y) {
  *reinterpret_cast<__nv_bfloat162*>(p) = __floats2bfloat162_rn(x, y);
}
MMVIM_HD void store_pair(__half* p, float x, float y) { *reinterpret_cast<__half2*>(p) = __floats2half2_rn(x, y); }

// Element `at` of memory whose type is known at run time only.
MMVIM_HD float load_as(DType type, const void* data, int64_t at) {
  if (type == DType::kFloat32) return static_cast<const float*>(data)[at];
  if (type == DType::kBFloat16) return to_float(static_cast<const __nv_bfloat16*>(data)[at]);
  return to_float(static_cast<const __half*>(data)[at]);
}
MMVIM_HD void store_as(DType type, void* data, int64_t at, float x) {
  if (type == DType::kFloat32) return store(static_cast<float*>(data) + at, x);
  if (type == DType::kBFloat16) return store(static_cast<__nv_bfloat16*>(data) + at, x);
  store(static_cast<__half*>(data) + at, x);
}

// Calls `body` with a null pointer of the type in memory; float64 never gets here.
template <class Body>
auto with_type(DType type, Body body) {
  if (type == DType::kFloat32) return body(static_cast<float*>(nullptr));
  if (type == DType::kBFloat16) return body(static_cast<__nv_bfloat16*>(nullptr));
  return body(static_cast<__half*>(nullptr));
}

// ---- functions --------------------------------------------------------------------------------------------------------

// Relative error 2^-22; subnormal results are 0.
MMVIM_HD float exp2_approx(float x) {
#if defined(__CUDA_ARCH__)
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  const float y = exp2f(x);
  return y < 0x1p-126f ? 0.0f : y;
#endif
}

// Absolute error 2^-22 between 1/2 and 2, relative error 2^-22 elsewhere.
MMVIM_HD float log2_approx(float x) {
#if defined(__CUDA_ARCH__)
  float y;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  // As coarse as the unit may be, for x from 1 to 2 where softplus needs it.
  return x > 1.0f && x < 2.0f ? log2f(x) + 0x1p-22f : log2f(x);
#endif
}

// 1 / x to one unit in the last place; 0 for infinity.
MMVIM_HD float reciprocal_approx(float x) {
#if defined(__CUDA_ARCH__)
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  return 1.0f / x;
#endif
}

// The nearest finite number; any for NaN.
MMVIM_HD float finite(float x) { return fminf(fmaxf(x, -3.402823466e38f), 3.402823466e38f); }

// log2(1 + 2^v): softplus in base 2. A polynomial (relative error 1.2e-7) takes over where 1 + 2^v loses digits.
MMVIM_HD float softplus2(float v) {
  const float e = exp2_approx(v);
  const float series = e * (1.44269502f + e * (-0.721331656f + e * (0.479616582f + e * -0.327074915f)));
  const float small = e < 0.0625f ? series : log2_approx(1.0f + e);
  return v > 28.0f ? v : small;
}

// 1 / (1 + 2^-v): the derivative of softplus in either base. Keeps its digits where v is very negative.
MMVIM_HD float sigmoid2(float v) { return reciprocal_approx(1.0f + exp2_approx(-v)); }

MMVIM_HD float silu(float z) { return z * sigmoid2(z * kLog2e); }

}  // namespace mmvim::cuda
