#include "instruction_sets.h"

#include "processor.h"

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
#ifdef UFB_HAS_DOTPROD
UFB_DECLARE(dotprod)
#endif
#ifdef UFB_HAS_I8MM
UFB_DECLARE(i8mm)
#endif

const InstructionSet instructionSets[] = {
#ifdef UFB_HAS_BASELINE
    {"baseline", baseline::kernels, [] { return true; }},
#endif
#ifdef UFB_HAS_AVX2
    {"avx2", avx2::kernels, [] { return processor().avx2; }},
#endif
#ifdef UFB_HAS_AVX512
    {"avx512", avx512::kernels, [] { return processor().avx512; }},
#endif
#ifdef UFB_HAS_NEON
    {"neon", neon::kernels, [] { return true; }},
#endif
#ifdef UFB_HAS_DOTPROD
    {"dotprod", dotprod::kernels, [] { return processor().dotprod; }},
#endif
#ifdef UFB_HAS_I8MM
    {"i8mm", i8mm::kernels, [] { return processor().i8mm; }},
#endif
    {nullptr, nullptr, nullptr},
};

}  // namespace ufb
