// JavaScript's values as C++ has them, over the C interface of Node-API.
#pragma once
#if defined(_WIN32)
#define NAPI_EXTERN __declspec(dllimport)  // by pointers, see node_api_windows.cc
#endif
#include <node_api.h>

#include <cstddef>
#include <cstdio>

namespace ufb {

inline napi_value undefined(napi_env env) {
  napi_value value;
  napi_get_undefined(env, &value);
  return value;
}

inline napi_value errorOf(napi_env env, const char* message) {
  napi_value text, error;
  napi_create_string_utf8(env, message, NAPI_AUTO_LENGTH, &text);
  napi_create_error(env, nullptr, text, &error);
  return error;
}

// printf-style. Allocates nothing of its own: want of memory may be the message.
template <class... Values> napi_value throwError(napi_env env, const char* format, Values... values) {
  char message[512];
  std::snprintf(message, sizeof message, format, values...);
  napi_throw(env, errorOf(env, message));
  return nullptr;
}

template <size_t count> struct Call {
  napi_value arguments[count];
  Call(napi_env env, napi_callback_info info) {
    size_t given = count;
    napi_get_cb_info(env, info, &given, arguments, nullptr, nullptr);
  }
};

inline double numberOf(napi_env env, napi_value value) {
  double number = 0;
  napi_get_value_double(env, value, &number);
  return number;
}

// A name, which is cut where no name that is known is as long.
struct Name {
  char text[64] = "";
  Name(napi_env env, napi_value value) { napi_get_value_string_utf8(env, value, text, sizeof text, nullptr); }
};

struct View {
  void* data = nullptr;
  size_t bytes = 0;
};
// A typed array; nothing if the value is undefined.
inline View viewOf(napi_env env, napi_value value) {
  napi_typedarray_type type;
  View view;
  size_t length = 0;
  if (napi_get_typedarray_info(env, value, &type, &length, &view.data, nullptr, nullptr) != napi_ok) return {};
  switch (type) {
    case napi_int8_array: case napi_uint8_array: view.bytes = length; break;
    case napi_uint16_array: view.bytes = 2 * length; break;
    case napi_float64_array: view.bytes = 8 * length; break;
    default: view.bytes = 4 * length;
  }
  return view;
}

using Callback = napi_value (*)(napi_env, napi_callback_info);

// What C++ throws, for want of memory, must not reach Node, which would end the process: `failed` throws it again, catches it, and says it in
// JavaScript.
template <Callback callback, napi_value (*failed)(napi_env)> napi_value guarded(napi_env env, napi_callback_info info) {
  try {
    return callback(env, info);
  } catch (...) {
    return failed(env);
  }
}

inline void setFunction(napi_env env, napi_value object, const char* name, Callback callback) {
  napi_value function;
  napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, nullptr, &function);
  napi_set_named_property(env, object, name, function);
}

}  // namespace ufb
