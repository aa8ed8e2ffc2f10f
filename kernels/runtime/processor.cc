#include "processor.h"

#include <stdint.h>
#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace ufb {

#if defined(__x86_64__)

namespace {
struct Registers {
  uint32_t a = 0, b = 0, c = 0, d = 0;
};
// All zero where the processor has no such leaf.
Registers leaf(uint32_t number, uint32_t part) {
  Registers r;
  __get_cpuid_count(number, part, &r.a, &r.b, &r.c, &r.d);
  return r;
}
bool hasBits(uint32_t word, uint32_t bits) { return (word & bits) == bits; }
}  // namespace

// Intel, "Software Developer's Manual", volume 2, CPUID: leaves 1 and 7.
Processor processor() {
  Processor found;
  const Registers basic = leaf(1, 0), wide = leaf(7, 0), later = wide.a >= 1 ? leaf(7, 1) : Registers();
  if (!hasBits(basic.c, 1u << 27)) return found;  // OSXSAVE: the system says which registers it keeps
  uint32_t kept, upper;
  asm("xgetbv" : "=a"(kept), "=d"(upper) : "c"(0));
  const uint32_t ymm = 0x6, zmm = 0xe6;
  found.avx2 = hasBits(kept, ymm) && hasBits(basic.c, 1u << 12 | 1u << 28) && hasBits(wide.b, 1u << 5);
  // F, DQ, BW, VL; VNNI; BF16. macOS keeps the wide registers from a thread's first use of them on, and says no until then: it takes AVX2.
  found.avx512 = found.avx2 && hasBits(kept, zmm) && hasBits(wide.b, 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31) && hasBits(wide.c, 1u << 11) && hasBits(later.a, 1u << 5);
  return found;
}

#elif defined(__aarch64__) && defined(__linux__)

// The kernel's documentation, "ARM64 ELF hwcaps": bits of AT_HWCAP and AT_HWCAP2.
Processor processor() {
  const unsigned long first = getauxval(AT_HWCAP), second = getauxval(AT_HWCAP2);
  Processor found;
  found.dotprod = first >> 20 & 1;
  found.i8mm = found.dotprod && (second >> 13 & 1) && (second >> 14 & 1);
  return found;
}

#elif defined(__aarch64__) && defined(__APPLE__)

namespace {
bool has(const char* feature) {
  int value = 0;
  size_t size = sizeof value;
  return sysctlbyname(feature, &value, &size, nullptr, 0) == 0 && value == 1;
}
}  // namespace

Processor processor() {
  Processor found;
  found.dotprod = has("hw.optional.arm.FEAT_DotProd");
  found.i8mm = found.dotprod && has("hw.optional.arm.FEAT_I8MM") && has("hw.optional.arm.FEAT_BF16");
  return found;
}

#else

Processor processor() { return {}; }

#endif

}  // namespace ufb
