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
  static inline void put(Bf16* to, Floats x) {
    Words bits = reinterpret<Words>(x);
    const Words even = (bits >> 16) & 1;  // round to nearest, ties to even
    Words rounded = (bits + 0x7fffu + even) >> 16;
    const Words is_number = reinterpret<Words>(x == x);
    rounded = (is_number & rounded) | (~is_number & 0x7fc0u);
    store(to, __builtin_convertvector(rounded, Halves));
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

// ---- arithmetic on sixteen floats

inline Floats select(Ints mask, Floats yes, Floats no) {
  return reinterpret<Floats>((mask & reinterpret<Ints>(yes)) | (~mask & reinterpret<Ints>(no)));
}
inline Floats larger(Floats a, Floats b) { return select(a > b, a, b); }

inline float largest(Floats x) {
  float out = x[0];
  for (int i = 1; i < kLanes; i++) out = x[i] > out ? x[i] : out;
  return out;
}
inline float total(Floats x) {
  float out = 0;
  for (int i = 0; i < kLanes; i++) out += x[i];
  return out;
}

// e^x to about 1e-7: 2^round(x log2 e) times a polynomial in the rest.  0 far below zero.
inline Floats exponential(Floats x) {
  x = larger(x, spread(-87.f));
  const Floats magic = spread(12582912.f);  // 1.5 * 2^23: adding it rounds to an integer
  const Floats turns = (x * 1.44269504f + magic) - magic;
  Floats rest = x - turns * 0.693145751953125f;  // ln 2 in two parts, the first exact
  rest = rest - turns * 1.42860677e-6f;
  Floats sum = spread(1.f / 720);
  for (float c : {1.f / 120, 1.f / 24, 1.f / 6, 0.5f, 1.f, 1.f}) sum = sum * rest + c;
  const Ints exponent = __builtin_convertvector(turns, Ints) << 23;
  return reinterpret<Floats>(reinterpret<Ints>(sum) + exponent);
}
inline Floats hyperbolic_tangent(Floats x) { return 1.f - 2.f / (exponential(2.f * x) + 1.f); }

// ---- rearrangement

#define JPAGED_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)

// rows[i][j] <-> rows[j][i], by swapping ever smaller quarters
inline void transpose(Words (&rows)[kLanes]) {
  for (int half = 8; half; half /= 2)
    for (int i = 0; i < kLanes; i++) {
      if (i & half) continue;
      Words &a = rows[i], &b = rows[i + half];
      Words top, bottom;
      if (half == 8) {
        top = JPAGED_SHUFFLE(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23);
        bottom = JPAGED_SHUFFLE(a, b, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
      } else if (half == 4) {
        top = JPAGED_SHUFFLE(a, b, 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27);
        bottom = JPAGED_SHUFFLE(a, b, 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31);
      } else if (half == 2) {
        top = JPAGED_SHUFFLE(a, b, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29);
        bottom = JPAGED_SHUFFLE(a, b, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
      } else {
        top = JPAGED_SHUFFLE(a, b, 0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30);
        bottom = JPAGED_SHUFFLE(a, b, 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31);
      }
      a = top;
      b = bottom;
    }
}

// Sixteen elements of one row, each beside its neighbour in the next: the words of a product that
// sums over rows.  A float has its word to itself.
inline Words pair_rows(const Bf16* even, const Bf16* odd) {
  const Words low = __builtin_convertvector(load<Halves>(even), Words);
  const Words high = __builtin_convertvector(load<Halves>(odd), Words);
  return low | (high << 16);
}
inline Words pair_rows(const F32* row, const F32*) { return load<Words>(row); }

}  // namespace jpaged
