// The kernels compiled for each instruction set, and which of them this processor runs.
#pragma once
#include "../kernel.h"

namespace ufb {

struct InstructionSet {
  const char* name;
  const KernelEntry* kernels;  // the last one's name is null
  bool (*supported)();
};

// From the narrowest to the widest; the last one's name is null.
extern const InstructionSet instructionSets[];

}  // namespace ufb
