// The add-on's face towards JavaScript, over the C interface of Node-API. src/backend/native.ts is its only caller and says what
// each function does; arguments are trusted to be of the types it passes.
#include <cstdio>
#include <cstring>
#include <exception>

#include "addon_group.h"
#include "allocation_failures.h"
#include "executor.h"
#include "instruction_sets.h"
#include "node_api_values.h"

namespace ufb {
namespace {

// One backend: its executor, and the promises that wait for it.
struct Handle {
  napi_env env = nullptr;
  napi_threadsafe_function doorbell = nullptr;  // rung by the executor's thread when a barrier has run
  napi_ref self = nullptr;                      // strong while promises are outstanding, so that the backend outlives them
  std::unique_ptr<Executor> executor;
  std::mutex mutex;
  JobList completed;
  size_t outstanding = 0;
  bool disposed = false;
};

// A promise to be kept when its job has run.
struct Promise {
  napi_deferred deferred;
  napi_ref result;  // may be null: resolves with undefined
};

// Null, with an exception pending, if the backend was disposed.
Handle* handleOf(napi_env env, napi_value value) {
  void* data = nullptr;
  napi_get_value_external(env, value, &data);
  Handle* handle = static_cast<Handle*>(data);
  if (handle && !handle->disposed) return handle;
  throwError(env, "the native backend was disposed");
  return nullptr;
}

void settle(Handle& handle, std::unique_ptr<Job> job, const char* instead) {
  std::unique_ptr<Promise> promise(static_cast<Promise*>(job->owner));
  if (!instead && !job->error.empty()) instead = job->error.text;
  if (!instead) {
    napi_value result = undefined(handle.env);
    if (promise->result) napi_get_reference_value(handle.env, promise->result, &result);
    napi_resolve_deferred(handle.env, promise->deferred, result);
  } else {
    napi_reject_deferred(handle.env, promise->deferred, errorOf(handle.env, instead));
  }
  if (promise->result) napi_delete_reference(handle.env, promise->result);
  if (--handle.outstanding > 0) return;
  uint32_t count;
  napi_reference_unref(handle.env, handle.self, &count);
  if (handle.doorbell) napi_unref_threadsafe_function(handle.env, handle.doorbell);
}

void settleCompleted(Handle& handle, const char* instead) {
  const auto next = [&handle] {
    std::lock_guard<std::mutex> lock(handle.mutex);
    return handle.completed.pop();
  };
  for (std::unique_ptr<Job> job = next(); job; job = next()) settle(handle, std::move(job), instead);
}

// Ends the threads and frees the memory. What has not run by then never will.
JobList close(Handle& handle) noexcept {
  handle.disposed = true;
  JobList dropped = handle.executor ? handle.executor->stop() : JobList();
  handle.executor.reset();
  if (handle.doorbell) napi_release_threadsafe_function(handle.doorbell, napi_tsfn_abort);
  handle.doorbell = nullptr;
  return dropped;
}

// Nobody is left whom a promise could be kept for.
void abandon(JobList dropped) noexcept {
  while (std::unique_ptr<Job> job = dropped.pop()) delete static_cast<Promise*>(job->owner);
}

void closeWithEnvironment(void* data) {
  Handle& handle = *static_cast<Handle*>(data);
  abandon(close(handle));
  abandon(std::move(handle.completed));
}

napi_value create(napi_env env, napi_callback_info info) {
  Call<2> call(env, info);
  const Name name(env, call.arguments[0]);
  const InstructionSet* set = instructionSets;
  while (set->name && std::strcmp(name.text, set->name) != 0) set++;
  if (!set->name || !set->supported()) return throwError(env, "this processor or build has no instruction set '%s'", name.text);

  Handle* handle = new Handle;
  handle->env = env;
  napi_value resource;
  napi_create_string_utf8(env, "ultrafastbert", NAPI_AUTO_LENGTH, &resource);
  const auto ring = [](napi_env callEnv, napi_value, void* context, void*) {
    if (!callEnv) return;  // the environment is going down
    napi_handle_scope scope;
    napi_open_handle_scope(callEnv, &scope);
    settleCompleted(*static_cast<Handle*>(context), nullptr);
    napi_close_handle_scope(callEnv, scope);
  };
  if (napi_create_threadsafe_function(env, nullptr, nullptr, resource, 0, 1, nullptr, nullptr, handle, ring, &handle->doorbell) != napi_ok) {
    delete handle;
    return throwError(env, "cannot create the native backend's completion queue");
  }
  napi_unref_threadsafe_function(env, handle->doorbell);
  const auto completed = [](void* data, std::unique_ptr<Job> job) {
    Handle* owner = static_cast<Handle*>(data);
    {
      std::lock_guard<std::mutex> lock(owner->mutex);
      owner->completed.push(std::move(job));
    }
    napi_call_threadsafe_function(owner->doorbell, nullptr, napi_tsfn_nonblocking);
  };
  try {
    handle->executor.reset(new Executor(set->kernels, static_cast<int>(numberOf(env, call.arguments[1])), completed, handle));
  } catch (const std::exception& error) {
    napi_release_threadsafe_function(handle->doorbell, napi_tsfn_abort);
    delete handle;
    return throwError(env, "the system gives the native backend no thread or memory (%s): end other programs or raise the limits (ulimit -a)", error.what());
  }
  napi_add_env_cleanup_hook(env, closeWithEnvironment, handle);

  napi_value external;
  const auto finalize = [](napi_env finalEnv, void* data, void*) {
    Handle* owner = static_cast<Handle*>(data);
    napi_remove_env_cleanup_hook(finalEnv, closeWithEnvironment, owner);
    closeWithEnvironment(owner);
    delete owner;
  };
  napi_create_external(env, handle, finalize, nullptr, &external);
  napi_create_reference(env, external, 0, &handle->self);
  return external;
}

napi_value dispose(napi_env env, napi_callback_info info) {
  Call<1> call(env, info);
  Handle* handle = handleOf(env, call.arguments[0]);
  if (!handle) return nullptr;
  const char* reason = "the native backend was disposed before this had run";
  JobList dropped = close(*handle);
  settleCompleted(*handle, reason);
  while (std::unique_ptr<Job> job = dropped.pop())
    if (job->barrier) settle(*handle, std::move(job), reason);
  return undefined(env);
}

napi_value threads(napi_env env, napi_callback_info info) {
  Call<1> call(env, info);
  Handle* handle = handleOf(env, call.arguments[0]);
  napi_value value = nullptr;
  if (handle) napi_create_int32(env, handle->executor->threads(), &value);
  return value;
}

napi_value allocate(napi_env env, napi_callback_info info) {
  Call<2> call(env, info);
  Handle* handle = handleOf(env, call.arguments[0]);
  if (!handle) return nullptr;
  const double bytes = numberOf(env, call.arguments[1]);
  void* block = handle->executor->blocks().allocate(static_cast<size_t>(bytes));
  if (!block) return throwError(env, "no memory for a tensor of %zu bytes", static_cast<size_t>(bytes));
  napi_value address;
  napi_create_double(env, static_cast<double>(reinterpret_cast<uintptr_t>(block)), &address);
  return address;
}

napi_value addressOf(napi_env env, napi_callback_info info) {
  Call<1> call(env, info);
  napi_value address;
  napi_create_double(env, static_cast<double>(reinterpret_cast<uintptr_t>(viewOf(env, call.arguments[0]).data)), &address);
  return address;
}

napi_value stage(napi_env env, napi_callback_info info) {
  Call<2> call(env, info);
  Handle* handle = handleOf(env, call.arguments[0]);
  if (!handle) return nullptr;
  const View values = viewOf(env, call.arguments[1]);
  void* block = handle->executor->stage(values.data, values.bytes);
  if (!block) return throwError(env, "no memory to stage %zu bytes", values.bytes);
  napi_value address;
  napi_create_double(env, static_cast<double>(reinterpret_cast<uintptr_t>(block)), &address);
  return address;
}

// Arguments: handle, commands, how many of their numbers count; for a barrier also the array to read into and the address to read from.
std::unique_ptr<Job> jobOf(napi_env env, const napi_value* arguments, bool barrier) {
  std::unique_ptr<Job> job(new Job);
  const double* commands = static_cast<const double*>(viewOf(env, arguments[1]).data);
  job->commands.assign(commands, commands + static_cast<size_t>(numberOf(env, arguments[2])));
  job->barrier = barrier;
  if (barrier) {
    const View to = viewOf(env, arguments[3]);
    job->read = {to.data, reinterpret_cast<const void*>(static_cast<uintptr_t>(numberOf(env, arguments[4]))), to.bytes};
  }
  return job;
}

napi_value submit(napi_env env, napi_callback_info info) {
  Call<3> call(env, info);
  Handle* handle = handleOf(env, call.arguments[0]);
  if (!handle) return nullptr;
  try {
    handle->executor->submit(jobOf(env, call.arguments, false));
  } catch (...) {
    // The list is lost. Whoever goes on all the same must not read what was there before.
    handle->executor->fail("a list of %lld numbers was lost, for there was no memory for it", static_cast<long long>(numberOf(env, call.arguments[2])), 0, 0);
    throw;
  }
  return undefined(env);
}

napi_value finish(napi_env env, napi_callback_info info) {
  Call<5> call(env, info);
  Handle* handle = handleOf(env, call.arguments[0]);
  if (!handle) return nullptr;
  std::unique_ptr<Job> job = jobOf(env, call.arguments, true);
  Promise* promise = new Promise{};
  job->owner = promise;
  napi_value value;
  napi_create_promise(env, &promise->deferred, &value);
  napi_valuetype type;
  napi_typeof(env, call.arguments[3], &type);
  if (type == napi_object) napi_create_reference(env, call.arguments[3], 1, &promise->result);
  if (handle->outstanding++ == 0) {
    uint32_t count;
    napi_reference_ref(env, handle->self, &count);
    napi_ref_threadsafe_function(env, handle->doorbell);
  }
  handle->executor->submit(std::move(job));
  return value;
}

napi_value blockCount(napi_env env, napi_callback_info info) {
  Call<1> call(env, info);
  Handle* handle = handleOf(env, call.arguments[0]);
  napi_value value = nullptr;
  if (handle) napi_create_double(env, static_cast<double>(handle->executor->blocks().count()), &value);
  return value;
}

// [calls, nanoseconds] of each kernel, in the order of kernelNames.
napi_value kernelTimes(napi_env env, napi_callback_info info) {
  Call<1> call(env, info);
  Handle* handle = handleOf(env, call.arguments[0]);
  if (!handle) return nullptr;
  const std::vector<KernelTime> times = handle->executor->times();
  napi_value list;
  napi_create_array_with_length(env, 2 * times.size(), &list);
  for (size_t i = 0; i < times.size(); i++) {
    napi_value calls, nanoseconds;
    napi_create_double(env, static_cast<double>(times[i].calls), &calls);
    napi_create_double(env, static_cast<double>(times[i].nanoseconds), &nanoseconds);
    napi_set_element(env, list, static_cast<uint32_t>(2 * i), calls);
    napi_set_element(env, list, static_cast<uint32_t>(2 * i + 1), nanoseconds);
  }
  return list;
}

void append(napi_env env, napi_value list, const char* text) {
  napi_value name;
  uint32_t length = 0;
  napi_create_string_utf8(env, text, NAPI_AUTO_LENGTH, &name);
  napi_get_array_length(env, list, &length);
  napi_set_element(env, list, length, name);
}

#if defined(UFB_ALLOCATION_FAILURES)
napi_value failAllocationsOf(napi_env env, napi_callback_info info) {
  Call<2> call(env, info);
  napi_value value;
  napi_create_double(env, static_cast<double>(failAllocations(static_cast<size_t>(numberOf(env, call.arguments[0])), static_cast<size_t>(numberOf(env, call.arguments[1])))), &value);
  return value;
}
#endif

napi_value failed(napi_env env) {
  try {
    throw;
  } catch (const std::exception& error) {
    return throwError(env, "no memory for the native backend's own lists (%s): dispose tensors or take smaller batches", error.what());
  }
}

template <Callback callback> void add(napi_env env, napi_value object, const char* name) { setFunction(env, object, name, guarded<callback, failed>); }

}  // namespace
}  // namespace ufb

extern "C" NAPI_MODULE_EXPORT napi_value napi_register_module_v1(napi_env env, napi_value exports) {
  using namespace ufb;
  napi_value sets, kernels;
  napi_create_array(env, &sets);
  napi_create_array(env, &kernels);
  for (const InstructionSet* set = instructionSets; set->name; set++)
    if (set->supported()) append(env, sets, set->name);
  for (const KernelEntry* entry = instructionSets[0].kernels; entry->name; entry++) append(env, kernels, entry->name);
  napi_set_named_property(env, exports, "instructionSets", sets);
  napi_set_named_property(env, exports, "kernelNames", kernels);
  add<create>(env, exports, "create");
  add<dispose>(env, exports, "dispose");
  add<threads>(env, exports, "threads");
  add<allocate>(env, exports, "allocate");
  add<addressOf>(env, exports, "addressOf");
  add<stage>(env, exports, "stage");
  add<submit>(env, exports, "submit");
  add<finish>(env, exports, "finish");
  add<blockCount>(env, exports, "blockCount");
  add<kernelTimes>(env, exports, "kernelTimes");
  exportGroup(env, exports);
#if defined(UFB_ALLOCATION_FAILURES)
  add<failAllocationsOf>(env, exports, "failAllocations");
#endif
  return exports;
}

extern "C" NAPI_MODULE_EXPORT int32_t node_api_module_get_api_version_v1() { return 8; }
