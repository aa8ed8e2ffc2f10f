// For tests of what happens without memory: with UFB_ALLOCATION_FAILURES (node scripts/build_native.mjs --allocation-failures) each
// allocation of the add-on is counted, and those that `failAllocations` names fail. Otherwise nothing of it is compiled.
#pragma once
#include <cstddef>

namespace ufb {

#if defined(UFB_ALLOCATION_FAILURES)
// The next `skip` allocations succeed, the `fail` after them do not. Returns how many there were since the call before.
size_t failAllocations(size_t skip, size_t fail) noexcept;
bool mayAllocate() noexcept;
#else
inline bool mayAllocate() noexcept { return true; }
#endif

}  // namespace ufb
