// Sixteen 32-bit lanes, and what both kernels do with them.
//
// Everything is written in words of 32 bits: a word is one float, or two neighbouring bfloat16
// values.  `dot` multiplies words and adds into floats, so that one kernel serves both types.
// Vector types are the compiler's own (GCC and Clang), which splits them where the machine's
// registers are narrower; only the bfloat16 product has an instruction named here.
#pragma once

#include <cstdint>
#include <cstring>
#include <initializer_list>
#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

namespace jpaged {

constexpr int kLanes = 16;
typedef float Floats __attribute__((vector_size(64)));
typedef uint32_t Words __attribute__((vector_size(64)));
typedef int32_t Ints __attribute__((vector_size(64)));
typedef uint16_t Halves __attribute__((vector_size(32)));

template <class V, class From> inline V reinterpret(const From& x) {
  static_assert(sizeof(V) == sizeof(From));
  V out;
  std::memcpy(&out, &x, sizeof out);
  return out;
}
template <class V> inline V load(const void* from) {
  V out;
  std::memcpy(&out, from, sizeof out);
  return out;
}
template <class V> inline void store(void* to, const V& x) { std::memcpy(to, &x, sizeof x); }

inline Words spread(uint32_t word) { return Words{} + word; }
inline Floats spread(float x) { return Floats{} + x; }

// ---- element types: how many share a word, how words multiply, how floats become elements

struct Bf16 {
  uint16_t bits;
  static constexpr int kPerWord = 2;
  static inline Floats dot(Floats sum, Words a, Words b) {
#ifdef __AVX512BF16__
    return (Floats)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
#else
    const Words high = spread(0xffff0000u);
    sum += reinterpret<Floats>(a << 16) * reinterpret<Floats>(b << 16);
    return sum + reinterpret<Floats>(a & high) * reinterpret<Floats>(b & high);
#endif
  }
  // rounds to nearest, ties to even
  static inline void put(Bf16* to, Floats x) {
#ifdef __AVX512BF16__
    const __m256bh rounded = _mm512_cvtneps_pbh((__m512)x);
    store(to, rounded);
#else
    Words bits = reinterpret<Words>(x);
    const Words even = (bits >> 16) & 1;
    Words rounded = (bits + 0x7fffu + even) >> 16;
    const Words is_number = reinterpret<Words>(x == x);
    rounded = (is_number & rounded) | (~is_number & 0x7fc0u);
    store(to, __builtin_convertvector(rounded, Halves));
#endif
  }
};

struct F32 {
  float value;
  static constexpr int kPerWord = 1;
  static inline Floats dot(Floats sum, Words a, Words b) {
    return sum + reinterpret<Floats>(a) * reinterpret<Floats>(b);
  }
  static inline void put(F32* to, Floats x) { store(to, x); }
};

// One word of a row of elements, in every lane.
template <class E> inline Words word_at(const E* row, int64_t word) {
  uint32_t out;
  std::memcpy(&out, reinterpret_cast<const char*>(row) + 4 * word, 4);
  return spread(out);
}

// ---- arithmetic on sixteen floats

inline Floats select(Ints mask, Floats yes, Floats no) { return mask ? yes : no; }
inline Floats larger(Floats a, Floats b) { return a > b ? a : b; }
inline Floats smaller(Floats a, Floats b) { return a < b ? a : b; }

#define JPAGED_SWAP(x, ...) __builtin_shufflevector(x, x, __VA_ARGS__)

// One float out of sixteen: the halves meet, then the quarters, ...
template <class Meet> inline float fold(Floats x, Meet meet) {
  x = meet(x, JPAGED_SWAP(x, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7));
  x = meet(x, JPAGED_SWAP(x, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11));
  x = meet(x, JPAGED_SWAP(x, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13));
  x = meet(x, JPAGED_SWAP(x, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14));
  return x[0];
}
inline float largest(Floats x) { return fold(x, larger); }
inline float total(Floats x) {
  return fold(x, [](Floats a, Floats b) { return a + b; });
}

// e^x to about 1e-7: 2^round(x log2 e) times a polynomial in the rest.  0 below -87, for -inf too,
// and no more than e^88.
inline Floats exponential(Floats x) {
  const Ints is_seen = x > -87.f;
  x = smaller(larger(x, spread(-87.f)), spread(88.f));
  const Floats magic = spread(12582912.f);  // 1.5 * 2^23: adding it rounds to an integer
  const Floats turns = (x * 1.44269504f + magic) - magic;
  Floats rest = x - turns * 0.693145751953125f;  // ln 2 in two parts, the first exact
  rest = rest - turns * 1.42860677e-6f;
  Floats sum = spread(1.f / 720);
  for (float c : {1.f / 120, 1.f / 24, 1.f / 6, 0.5f, 1.f, 1.f}) sum = sum * rest + c;
  const Ints exponent = __builtin_convertvector(turns, Ints) << 23;
  return select(is_seen, reinterpret<Floats>(reinterpret<Ints>(sum) + exponent), Floats{});
}
inline Floats hyperbolic_tangent(Floats x) {
  return 1.f - 2.f / (exponential(2.f * x) + 1.f);
}

}  // namespace jpaged
