#include "instruction_sets.h"

namespace ufb {

#define UFB_DECLARE(set) \
  namespace set { extern const KernelEntry kernels[]; }
#ifdef UFB_HAS_BASELINE
UFB_DECLARE(baseline)
#endif
#ifdef UFB_HAS_AVX2
UFB_DECLARE(avx2)
#endif
#ifdef UFB_HAS_AVX512
UFB_DECLARE(avx512)
#endif
#ifdef UFB_HAS_NEON
UFB_DECLARE(neon)
#endif

const InstructionSet instructionSets[] = {
#ifdef UFB_HAS_BASELINE
    {"baseline", baseline::kernels, [] { return true; }},
#endif
#ifdef UFB_HAS_AVX2
    {"avx2", avx2::kernels, [] { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }},
#endif
#ifdef UFB_HAS_AVX512
    {"avx512", avx512::kernels,
     [] {
       return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
              __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bf16");
     }},
#endif
#ifdef UFB_HAS_NEON
    {"neon", neon::kernels, [] { return true; }},
#endif
    {nullptr, nullptr, nullptr},
};

}  // namespace ufb
