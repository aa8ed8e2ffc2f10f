// What this processor and its system run, asked of them by ourselves: compilers' own __builtin_cpu_supports answers no in programs that Zig links.
#pragma once

namespace ufb {

struct Processor {
  bool avx2 = false;     // with FMA
  bool avx512 = false;   // F, BW, DQ, VL, VNNI and BF16
  bool dotprod = false;  // Arm's SDOT
  bool i8mm = false;     // Arm's SMMLA, and BFMMLA of BF16
};

Processor processor();

}  // namespace ufb
