// On Windows a library names the program that its imports come from, and that is not node.exe where Electron, Bun or Deno loads it. So this
// add-on imports nothing: it looks Node-API's functions up in the program that runs. Calls go through the pointers that an import table
// would hold (__imp_NAME), which are defined and filled here. One that is missing from the list does not link.
#if defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#include <windows.h>

#define UFB_NODE_API(each)             \
  each(napi_add_env_cleanup_hook)      \
  each(napi_call_threadsafe_function)  \
  each(napi_create_array)              \
  each(napi_create_array_with_length)  \
  each(napi_create_arraybuffer)        \
  each(napi_create_double)             \
  each(napi_create_error)              \
  each(napi_create_external)           \
  each(napi_create_function)           \
  each(napi_create_int32)              \
  each(napi_create_object)             \
  each(napi_create_promise)            \
  each(napi_create_reference)          \
  each(napi_create_string_utf8)        \
  each(napi_create_threadsafe_function) \
  each(napi_close_handle_scope)        \
  each(napi_delete_reference)          \
  each(napi_get_array_length)          \
  each(napi_get_cb_info)               \
  each(napi_get_reference_value)       \
  each(napi_get_typedarray_info)       \
  each(napi_get_undefined)             \
  each(napi_get_value_double)          \
  each(napi_get_value_external)        \
  each(napi_get_value_string_utf8)     \
  each(napi_open_handle_scope)         \
  each(napi_ref_threadsafe_function)   \
  each(napi_reference_ref)             \
  each(napi_reference_unref)           \
  each(napi_reject_deferred)           \
  each(napi_release_threadsafe_function) \
  each(napi_remove_env_cleanup_hook)   \
  each(napi_resolve_deferred)          \
  each(napi_set_element)               \
  each(napi_set_named_property)        \
  each(napi_throw)                     \
  each(napi_typeof)                    \
  each(napi_unref_threadsafe_function)

namespace {
// Node may be a library of the program too.
void* find(const char* name) {
  void* found = reinterpret_cast<void*>(GetProcAddress(GetModuleHandleW(nullptr), name));
  const HMODULE library = found ? nullptr : GetModuleHandleW(L"libnode.dll");
  return library ? reinterpret_cast<void*>(GetProcAddress(library, name)) : found;
}
}  // namespace

#define UFB_POINTER(name) \
  extern "C" void* __imp_##name; \
  void* __imp_##name = find(#name);
UFB_NODE_API(UFB_POINTER)
#endif
