// Vectors of one register, conversions to and from memory types, and the transcendental functions on them.
namespace mmvim::MMVIM_ISA {

typedef float vfloat __attribute__((vector_size(MMVIM_VECTOR_BYTES)));
typedef double vdouble __attribute__((vector_size(MMVIM_VECTOR_BYTES)));
typedef uint32_t vuint __attribute__((vector_size(MMVIM_VECTOR_BYTES)));
typedef uint16_t vshort __attribute__((vector_size(MMVIM_VECTOR_BYTES / 2)));

template <class T>
struct VectorOf;
template <>
struct VectorOf<float> {
  typedef vfloat type;
};
template <>
struct VectorOf<double> {
  typedef vdouble type;
};
template <class T>
using Vec = typename VectorOf<T>::type;
template <class T>
constexpr int kLanes = MMVIM_VECTOR_BYTES / sizeof(T);

struct BFloat16 {
  uint16_t bits;
};
struct Float16 {
  uint16_t bits;
};

#ifdef MMVIM_AVX512
// GCC warns of uninitialised values inside its own unmasked forms of the intrinsics used here; the instructions are the same.
constexpr __mmask16 kAll = 0xffff;
#endif

template <class To, class From>
MMVIM_HD To bits_as(From value) {
  static_assert(sizeof(To) == sizeof(From));
  To result;
  __builtin_memcpy(&result, &value, sizeof(To));
  return result;
}

template <class T>
MMVIM_HD Vec<T> splat(T value) {
  return Vec<T>{} + value;  // -0 becomes +0, which no caller minds
}

// Bounds that keep NaN: it compares false, and the instructions return their second operand then.
MMVIM_HD vdouble at_least(vdouble x, vdouble low) { return x < low ? low : x; }
MMVIM_HD vdouble at_most(vdouble x, vdouble high) { return x > high ? high : x; }
#if defined(MMVIM_AVX512)
MMVIM_HD vfloat at_least(vfloat x, vfloat low) { return _mm512_maskz_max_ps(kAll, low, x); }
MMVIM_HD vfloat at_most(vfloat x, vfloat high) { return _mm512_maskz_min_ps(kAll, high, x); }
#elif defined(MMVIM_AVX2)
MMVIM_HD vfloat at_least(vfloat x, vfloat low) { return _mm256_max_ps(low, x); }
MMVIM_HD vfloat at_most(vfloat x, vfloat high) { return _mm256_min_ps(high, x); }
#else
MMVIM_HD vfloat at_least(vfloat x, vfloat low) { return x < low ? low : x; }
MMVIM_HD vfloat at_most(vfloat x, vfloat high) { return x > high ? high : x; }
#endif

// ---- memory ---------------------------------------------------------------------------------------------------------

MMVIM_HD vfloat widen(vshort bits, BFloat16) { return bits_as<vfloat>(__builtin_convertvector(bits, vuint) << 16); }

MMVIM_HD vshort narrow(vfloat x, BFloat16) {
  const vuint bits = bits_as<vuint>(x);
  const vuint rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
  return __builtin_convertvector((x == x ? rounded : bits | 0x400000u) >> 16, vshort);
}

#if defined(MMVIM_AVX512)
MMVIM_HD vfloat widen(vshort bits, Float16) { return _mm512_maskz_cvtph_ps(kAll, bits_as<__m256i>(bits)); }
MMVIM_HD vshort narrow(vfloat x, Float16) {
  return bits_as<vshort>(_mm512_maskz_cvtps_ph(kAll, x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
#elif defined(MMVIM_AVX2)
MMVIM_HD vfloat widen(vshort bits, Float16) { return _mm256_cvtph_ps(bits_as<__m128i>(bits)); }
MMVIM_HD vshort narrow(vfloat x, Float16) {
  return bits_as<vshort>(_mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
#else
MMVIM_HD vfloat widen(vshort half, Float16) {
  const vuint h = __builtin_convertvector(half, vuint);
  const vuint magnitude = (h & 0x7fffu) << 13;
  const vuint exponent = magnitude & 0x0f800000u;
  const vuint rebased = magnitude + (112u << 23);
  const vfloat subnormal = bits_as<vfloat>(rebased + (1u << 23)) - bits_as<float>(113u << 23);
  const vuint finite = exponent == 0u ? bits_as<vuint>(subnormal) : rebased;
  return bits_as<vfloat>((exponent == 0x0f800000u ? rebased + (112u << 23) : finite) | ((h & 0x8000u) << 16));
}
MMVIM_HD vshort narrow(vfloat x, Float16) {
  const vuint bits = bits_as<vuint>(x), sign = bits & 0x80000000u, magnitude = bits ^ sign;
  constexpr uint32_t kMagic = 126u << 23;  // adding it leaves a subnormal half in the low bits, rounded to even
  const vuint subnormal = bits_as<vuint>(bits_as<vfloat>(magnitude) + bits_as<float>(kMagic)) - kMagic;
  const vuint normal = (magnitude - (112u << 23) + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  vuint half = magnitude < (113u << 23) ? subnormal : normal;
  half = magnitude >= (143u << 23) ? (magnitude > 0x7f800000u ? vuint{} + 0x7e00u : vuint{} + 0x7c00u) : half;
  return __builtin_convertvector(half | (sign >> 16), vshort);
}
#endif

// Whether sums of products of pairs of bfloat16 have an instruction; a pair travels in the place of a float.
#ifdef MMVIM_AVX512_BF16
template <class T>
constexpr bool kPairs = sizeof(T) == 4;
MMVIM_HD vfloat add_pairs(vfloat sum, vfloat a, float b) {
  const vuint pair = vuint{} + bits_as<uint32_t>(b);
  return _mm512_dpbf16_ps(sum, bits_as<__m512bh>(a), bits_as<__m512bh>(pair));
}
// The pairs of two vectors' values, rounded to bfloat16; what is finite stays finite.
MMVIM_HD vfloat to_pairs(vfloat low, vfloat high) {
  const auto nearest = [](vfloat x) {
    const vuint bits = bits_as<vuint>(x), rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
    const vuint exponent = vuint{} + 0x7f800000u;
    const vuint overflown = ((bits & exponent) != exponent) & ((rounded & exponent) == exponent);
    return x == x ? (overflown ? bits : rounded) : bits | 0x400000u;
  };
  return bits_as<vfloat>((nearest(low) >> 16) | (nearest(high) & 0xffff0000u));
}
#else
template <class T>
constexpr bool kPairs = false;
#endif

// Loads one vector of state-type values from memory of type X; any alignment.
template <class T, class X>
MMVIM_HD Vec<T> load(const X* p) {
  if constexpr (sizeof(X) == 2) {
    vshort bits;
    __builtin_memcpy(&bits, p, sizeof(bits));
    return widen(bits, X{});
  } else if constexpr (sizeof(X) == sizeof(T)) {
    Vec<T> v;
    __builtin_memcpy(&v, p, sizeof(v));
    return v;
  } else {
    Vec<T> v;
    for (int i = 0; i < kLanes<T>; ++i) v[i] = static_cast<T>(p[i]);
    return v;
  }
}

template <class T, class X>
MMVIM_HD void store(X* p, Vec<T> v) {
  if constexpr (sizeof(X) == 2) {
    const vshort bits = narrow(v, X{});
    __builtin_memcpy(p, &bits, sizeof(bits));
  } else if constexpr (sizeof(X) == sizeof(T)) {
    __builtin_memcpy(p, &v, sizeof(v));
  } else {
    for (int i = 0; i < kLanes<T>; ++i) p[i] = static_cast<X>(v[i]);
  }
}

// One value.
template <class T, class X>
MMVIM_HD T load_one(const X* p) {
  X value;
  __builtin_memcpy(&value, p, sizeof(X));
  if constexpr (sizeof(X) != 2)
    return static_cast<T>(value);
  else if constexpr (__is_same(X, BFloat16))
    return bits_as<float>(static_cast<uint32_t>(value.bits) << 16);
  else
    return widen(vshort{value.bits}, X{})[0];
}

// The address sanitizer does not see masked instructions, so its build does without.
#if defined(MMVIM_AVX512) && !defined(__SANITIZE_ADDRESS__)
#define MMVIM_MASKED
#endif

// The first `n` lanes; the others are 0.
template <class T, class X>
MMVIM_HD Vec<T> load_some(const X* p, int n) {
#ifdef MMVIM_MASKED
  const __mmask16 first = static_cast<__mmask16>((1u << n) - 1);
  if constexpr (sizeof(X) == 4 && sizeof(T) == 4) return _mm512_maskz_loadu_ps(first, p);
  if constexpr (sizeof(X) == 2) return widen(bits_as<vshort>(_mm256_maskz_loadu_epi16(first, p)), X{});
#endif
  X full[kLanes<T>] = {};
  for (int i = 0; i < n; ++i) full[i] = p[i];
  return load<T>(full);
}

template <class T, class X>
MMVIM_HD void store_some(X* p, Vec<T> v, int n) {
#ifdef MMVIM_MASKED
  const __mmask16 first = static_cast<__mmask16>((1u << n) - 1);
  if constexpr (sizeof(X) == 4 && sizeof(T) == 4) return _mm512_mask_storeu_ps(p, first, v);
  if constexpr (sizeof(X) == 2) return _mm256_mask_storeu_epi16(p, first, bits_as<__m256i>(narrow(v, X{})));
#endif
  X full[kLanes<T>];
  store<T>(full, v);
  for (int i = 0; i < n; ++i) p[i] = full[i];
}

// Calls `body` with a null pointer of the C++ type that stands for a DType the state type T may meet in memory.
template <class T, class Body>
MMVIM_HD void with_type(DType type, Body body) {
  switch (type) {
    case DType::kFloat32:
      return body(static_cast<float*>(nullptr));
    case DType::kFloat64:
      return body(static_cast<double*>(nullptr));
    case DType::kBFloat16:
      if constexpr (sizeof(T) == 4) return body(static_cast<BFloat16*>(nullptr));
      return;
    case DType::kFloat16:
      if constexpr (sizeof(T) == 4) return body(static_cast<Float16*>(nullptr));
      return;
  }
}

MMVIM_HD int64_t bytes_of(DType type) {
  return type == DType::kFloat64 ? 8 : type == DType::kFloat32 ? 4 : 2;
}

// ---- functions ------------------------------------------------------------------------------------------------------

// 2^x; 0 for -inf, inf for inf, NaN for NaN.
template <Accuracy A>
MMVIM_HD vfloat exp2(vfloat x) {
#ifdef MMVIM_AVX512
  const vfloat fraction = _mm512_maskz_reduce_ps(kAll, x, 0);
  return _mm512_maskz_scalef_ps(kAll, exp2_fraction<A>(fraction), x - fraction);
#else
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer, found in the low bits
  x = at_most(at_least(x, splat(-127.0f)), splat(128.0f));
  const vfloat shifted = x + kRound;
  const vfloat fraction = x - (shifted - kRound);
  return exp2_fraction<A>(fraction) * bits_as<vfloat>((bits_as<vuint>(shifted) + 127u) << 23);
#endif
}

MMVIM_HD vfloat absolute(vfloat x) { return bits_as<vfloat>(bits_as<vuint>(x) & 0x7fffffffu); }

// 2^(x y), inside the innermost loops; with `Near` for |x y| <= kNear only, where adding rounds to an integer.
constexpr float kNear = 1e6f;
template <bool Near, Accuracy A>
MMVIM_HD vfloat exp2_product(vfloat x, vfloat y) {
#ifdef MMVIM_AVX512
  if constexpr (!Near) {
    const vfloat product = x * y;
    return absolute(product) <= kNear ? exp2_product<true, A>(x, y) : exp2<A>(product);  // near: the same bits
  }
  const vfloat round = splat(12582912.0f);
  const vfloat whole = _mm512_sub_ps(_mm512_fmadd_ps(x, y, round), round);
  return _mm512_maskz_scalef_ps(kAll, exp2_fraction<A, vfloat>(_mm512_fmsub_ps(x, y, whole)), whole);
#else
  return exp2<A>(x * y);
#endif
}

// e^-|x|
template <Accuracy A>
MMVIM_HD vfloat exp_below(vfloat x) {
  if constexpr (A == Accuracy::kFull)
    return exp2<A>(absolute(x) * -kLog2e);
  else
    return exp2_product<true, A>(at_most(absolute(x), splat(1e5f)), splat(-kLog2e));
}

// 1 / x of 1 <= x, or of what is not finite.
template <Accuracy A>
MMVIM_HD vfloat inverse(vfloat x) {
#ifdef MMVIM_AVX512
  if constexpr (A != Accuracy::kFull) return _mm512_maskz_rcp14_ps(kAll, x);
#endif
  return 1.0f / x;
}

template <Accuracy A>
MMVIM_HD vfloat softplus(vfloat x) {
  return log1p_unit<A>(exp_below<A>(x)) + at_least(x, vfloat{});
}

template <Accuracy A>
MMVIM_HD vfloat softplus(vfloat x, vfloat& derivative) {
  const vfloat e = exp_below<A>(x);
  const vfloat above = inverse<A>(1.0f + e);
  derivative = x < 0.0f ? e * above : above;
  return log1p_unit<A>(e) + at_least(x, vfloat{});
}

// 0 below -87: of a large number not even e^-87 is nothing.
template <Accuracy A>
MMVIM_HD vfloat sigmoid(vfloat x) {
#ifdef MMVIM_AVX512
  const vfloat denominator = 1.0f + exp2<A>(at_most(x * -kLog2e, splat(126.0f)));
  const vfloat guess = _mm512_maskz_rcp14_ps(kAll, denominator);
  const __mmask16 some = _mm512_cmp_ps_mask(x, splat(-87.3f), _CMP_NLT_UQ);  // NaN too
  if constexpr (A != Accuracy::kFull) return _mm512_maskz_mov_ps(some, guess);
  return _mm512_maskz_mul_ps(some, guess, 2.0f - denominator * guess);
#else
  return 1.0f / (1.0f + exp2<A>(x * -kLog2e));
#endif
}

// Double precision is there for checking, so it takes the C library's functions lane by lane.
template <bool Near, Accuracy A>
MMVIM_HD vdouble exp2_product(vdouble x, vdouble y) {
  vdouble r;
  for (int i = 0; i < kLanes<double>; ++i) r[i] = __builtin_exp2(x[i] * y[i]);
  return r;
}

template <Accuracy A>
MMVIM_HD vdouble softplus(vdouble x) {
  vdouble r;
  for (int i = 0; i < kLanes<double>; ++i)
    r[i] = x[i] > 0 ? x[i] + __builtin_log1p(__builtin_exp(-x[i])) : __builtin_log1p(__builtin_exp(x[i]));
  return r;
}

template <Accuracy A>
MMVIM_HD vdouble sigmoid(vdouble x) {
  vdouble r;
  for (int i = 0; i < kLanes<double>; ++i) r[i] = 1.0 / (1.0 + __builtin_exp(-x[i]));
  return r;
}

template <Accuracy A>
MMVIM_HD vdouble softplus(vdouble x, vdouble& derivative) {
  derivative = sigmoid<A>(x);
  return softplus<A>(x);
}

// Calls body with the accuracy that inputs of a type deserve, as a type.
template <Accuracy A>
struct Deserved {
  static constexpr Accuracy value = A;
};
template <class T, class Body>
MMVIM_HD auto with_accuracy(DType io, Body body) {
  if constexpr (sizeof(T) == 4) {
    if (io == DType::kBFloat16) return body(Deserved<Accuracy::kBFloat16>{});
    if (io == DType::kFloat16) return body(Deserved<Accuracy::kFloat16>{});
  }
  return body(Deserved<Accuracy::kFull>{});
}

// Whether there are decays for which `exp2_product` wants to know that they are near.
template <class T>
#ifdef MMVIM_AVX512
constexpr bool kNearMatters = sizeof(T) == 4;
#else
constexpr bool kNearMatters = false;
#endif

// Whether no lane of `count` vectors exceeds that of `bound` in size; false where that is NaN.
template <class T>
MMVIM_HD bool all_within(const T* vectors, int count, const T* bound) {
#ifdef MMVIM_AVX512
  if constexpr (kNearMatters<T>) {
    vfloat most = {};
    for (int i = 0; i < count; ++i) most = at_least(most, absolute(load<T>(vectors + i * kLanes<T>)));
    return _mm512_cmp_ps_mask(most, load<T>(bound), _CMP_LE_OQ) == kAll;
  }
#endif
  return true;
}

#ifndef __clang__
// One step of adding up the lanes of V vectors: of every 2 S lanes, the first S of the result belong to `a` and the
// others to `b`, each the sum of two halves.
template <class T, int S>
MMVIM_HD Vec<T> fold_pair(Vec<T> a, Vec<T> b) {
  typedef __typeof__(a < b) Index;
  Index same, swapped;
  constexpr int V = kLanes<T>;
  for (int i = 0; i < V; ++i) {
    same[i] = i / S % 2 ? V + i : i;
    swapped[i] = i / S % 2 ? V + i - S : i + S;
  }
  return __builtin_shuffle(a, b, same) + __builtin_shuffle(a, b, swapped);
}

// Sums of the lanes of `Count` vectors at `rows`, in the lanes that are their index modulo `Count`.
template <class T, int Count>
MMVIM_HD Vec<T> fold(const T* rows) {
  if constexpr (Count == 1)
    return load<T>(rows);
  else
    return fold_pair<T, Count / 2>(fold<T, Count / 2>(rows), fold<T, Count / 2>(rows + Count / 2 * kLanes<T>));
}
#endif

#ifndef __clang__
// One step of turning V vectors around: rows i and i + S, where i has no bit S, swap the lanes that have and have not.
template <class T, int S>
MMVIM_HD void swap_lanes(Vec<T>* rows) {
  typedef __typeof__(rows[0] < rows[0]) Index;
  Index first, second;
  constexpr int V = kLanes<T>;
  for (int i = 0; i < V; ++i) {
    first[i] = i & S ? V + i - S : i;
    second[i] = i & S ? V + i : i + S;
  }
#pragma GCC unroll 16
  for (int i = 0; i < V; ++i) {
    if (i & S) continue;
    const Vec<T> a = rows[i], b = rows[i + S];
    rows[i] = __builtin_shuffle(a, b, first);
    rows[i + S] = __builtin_shuffle(a, b, second);
  }
}
#endif

// out[j][i] = in[i][j] for `rows` rows of `columns`; with `Fill`, zeros follow up to a whole vector of each row.
template <bool Fill, class T>
static void transpose(const T* in, int64_t in_stride, int64_t rows, int64_t columns, T* out, int64_t out_stride) {
  constexpr int V = kLanes<T>;
  for (int64_t i = 0; i < rows; i += V)
    for (int64_t j = 0; j < columns; j += V) {
      const int high = static_cast<int>(rows - i < V ? rows - i : V);
      const int wide = static_cast<int>(columns - j < V ? columns - j : V);
#ifndef __clang__
      Vec<T> v[V] = {};
      for (int r = 0; r < high; ++r) {
        const T* from = in + (i + r) * in_stride + j;
        v[r] = wide == V ? load<T>(from) : load_some<T>(from, wide);
      }
      swap_lanes<T, 1>(v);
      if constexpr (V > 2) swap_lanes<T, 2>(v);
      if constexpr (V > 4) swap_lanes<T, 4>(v);
      if constexpr (V > 8) swap_lanes<T, 8>(v);
      for (int c = 0; c < wide; ++c) {
        T* to = out + (j + c) * out_stride + i;
        if (Fill || high == V)
          store<T>(to, v[c]);
        else
          store_some<T>(to, v[c], high);
      }
#else
      for (int c = 0; c < wide; ++c)
        for (int r = 0; r < (Fill ? V : high); ++r)
          out[(j + c) * out_stride + i + r] = r < high ? in[(i + r) * in_stride + j + c] : T(0);
#endif
    }
}

// out[i] = sum of the lanes of vector i, for `count` vectors. The order of the additions is fixed.
template <class T>
static void sum_lanes(const T* rows, int count, T* out) {
  constexpr int V = kLanes<T>;
  int i = 0;
#ifndef __clang__
  for (; i + V <= count; i += V) store<T>(out + i, fold<T, V>(rows + i * V));
#endif
  for (; i < count; ++i) {
    T part[V];
    store<T>(part, load<T>(rows + i * V));
    for (int width = V / 2; width > 0; width /= 2)
      for (int j = 0; j < width; ++j) part[j] += part[j + width];
    out[i] = part[0];
  }
}

}  // namespace mmvim::MMVIM_ISA
