// The functions of the add-on for a group of ranks (communicator.h). src/distributed/ is their only caller.
#pragma once
#include "node_api_values.h"

namespace ufb {

void exportGroup(napi_env env, napi_value exports);

}  // namespace ufb
