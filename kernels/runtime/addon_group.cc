#include "addon_group.h"

#include <cstring>

#include "communicator.h"
#include "node_api_values.h"

namespace ufb {
namespace {

// What the communicator has to tell the event loop.
struct Event {
  napi_deferred deferred = nullptr;
  std::unique_ptr<Exchange> exchange;
  Communicator::Joined joined;
  std::string error;
};

// The group of this process, which has at most one. Never deleted: see Communicator::start.
class Group : public Communicator::Listener {
 public:
  napi_env env = nullptr;
  napi_threadsafe_function doorbell = nullptr;
  napi_deferred joining = nullptr, leaving = nullptr;
  size_t outstanding = 0;
  bool hasJoined = false, hasLeft = false;

  void joined(const Communicator::Joined& joined) override {
    Event* event = new Event;
    event->deferred = joining;
    event->joined = joined;
    event->error = joined.error;
    ring(event);
  }
  void finished(std::unique_ptr<Exchange> exchange, const std::string& error) override {
    Event* event = new Event;
    event->deferred = static_cast<napi_deferred>(exchange->owner);
    event->exchange = std::move(exchange);
    event->error = error;
    ring(event);
  }
  void left(const std::string& error) override {
    Event* event = new Event;
    event->error = error;
    ring(event);
  }

 private:
  void ring(Event* event) { napi_call_threadsafe_function(doorbell, event, napi_tsfn_nonblocking); }
};

Group* group = nullptr;

// While a promise waits, the process does.
napi_value promised(napi_env env, napi_deferred& deferred) {
  napi_value promise;
  napi_create_promise(env, &deferred, &promise);
  if (group->outstanding++ == 0) napi_ref_threadsafe_function(env, group->doorbell);
  return promise;
}

void settle(napi_env env, napi_deferred deferred, napi_value value, const std::string& error) {
  if (error.empty()) napi_resolve_deferred(env, deferred, value);
  else napi_reject_deferred(env, deferred, errorOf(env, error.c_str()));
  if (--group->outstanding == 0) napi_unref_threadsafe_function(env, group->doorbell);
}

void setText(napi_env env, napi_value object, const char* name, const std::string& text) {
  napi_value value;
  napi_create_string_utf8(env, text.data(), text.size(), &value);
  napi_set_named_property(env, object, name, value);
}

void setNumber(napi_env env, napi_value object, const char* name, double number) {
  napi_value value;
  napi_create_double(env, number, &value);
  napi_set_named_property(env, object, name, value);
}

// A list of what each rank sent, an ArrayBuffer each; undefined of other exchanges.
napi_value bytesOf(napi_env env, const Exchange& exchange) {
  const BytesExchange* bytes = dynamic_cast<const BytesExchange*>(&exchange);
  if (!bytes) return undefined(env);
  napi_value list;
  napi_create_array_with_length(env, bytes->sizes.size(), &list);
  for (size_t rank = 0; rank < bytes->sizes.size(); rank++) {
    napi_value buffer;
    void* data = nullptr;
    napi_create_arraybuffer(env, bytes->sizes[rank], &data, &buffer);
    if (bytes->sizes[rank] > 0) std::memcpy(data, reinterpret_cast<const char*>(bytes->all.data()) + bytes->places[rank], bytes->sizes[rank]);
    napi_set_element(env, list, static_cast<uint32_t>(rank), buffer);
  }
  return list;
}

void tell(napi_env env, Event& event) {
  if (event.exchange) {
    settle(env, event.deferred, event.error.empty() ? bytesOf(env, *event.exchange) : nullptr, event.error);
  } else if (event.deferred) {
    group->hasJoined = event.error.empty();
    napi_value found;
    napi_create_object(env, &found);
    setNumber(env, found, "rank", event.joined.rank);
    setNumber(env, found, "size", event.joined.size);
    setText(env, found, "version", event.joined.version);
    setText(env, found, "path", event.joined.path);
    settle(env, event.deferred, found, event.error);
  } else {
    group->hasLeft = true;
    if (group->leaving) settle(env, group->leaving, undefined(env), event.error);
    group->leaving = nullptr;
  }
}

// Whoever goes without a word would leave the others waiting.
void endWithEnvironment(void*) {
  Communicator* const communicator = Communicator::current();
  if (!group->hasJoined || group->hasLeft || !communicator) return;
  communicator->abort(1);
  communicator->ends(3);
}

napi_value join(napi_env env, napi_callback_info info) {
  Call<1> call(env, info);
  if (group) return throwError(env, "this process has joined a group of ranks already");
  size_t length = 0;
  napi_get_value_string_utf8(env, call.arguments[0], nullptr, 0, &length);
  std::string paths(length + 1, '\0');
  napi_get_value_string_utf8(env, call.arguments[0], &paths[0], paths.size(), &length);
  paths.resize(length);
  group = new Group;
  group->env = env;
  napi_value resource;
  napi_create_string_utf8(env, "ultrafastbert ranks", NAPI_AUTO_LENGTH, &resource);
  const auto ring = [](napi_env callEnv, napi_value, void*, void* data) {
    std::unique_ptr<Event> event(static_cast<Event*>(data));
    if (!callEnv) return;  // the environment is going down
    napi_handle_scope scope;
    napi_open_handle_scope(callEnv, &scope);
    tell(callEnv, *event);
    napi_close_handle_scope(callEnv, scope);
  };
  if (napi_create_threadsafe_function(env, nullptr, nullptr, resource, 0, 1, nullptr, nullptr, nullptr, ring, &group->doorbell) != napi_ok)
    return throwError(env, "cannot create the completion queue of a group of ranks");
  napi_unref_threadsafe_function(env, group->doorbell);
  napi_add_env_cleanup_hook(env, endWithEnvironment, nullptr);
  const napi_value promise = promised(env, group->joining);
  try {
    Communicator::start(std::move(paths), *group);
  } catch (const std::exception& error) {
    settle(env, group->joining, nullptr, std::string("the system gives no thread for MPI (") + error.what() + ")");
  }
  return promise;
}

Communicator* joinedOr(napi_env env) {
  if (group && group->hasJoined && !group->hasLeft) return Communicator::current();
  throwError(env, "this process is in no group of ranks");
  return nullptr;
}

napi_value submitted(napi_env env, std::unique_ptr<Exchange> exchange) {
  napi_deferred deferred;
  const napi_value promise = promised(env, deferred);
  exchange->owner = deferred;
  Communicator::current()->submitControl(std::move(exchange));
  return promise;
}

napi_value exchange(napi_env env, napi_callback_info info) {
  Call<1> call(env, info);
  if (!joinedOr(env)) return nullptr;
  const View bytes = viewOf(env, call.arguments[0]);
  return submitted(env, std::unique_ptr<Exchange>(new BytesExchange(bytes.data, bytes.bytes)));
}

// Address, words, and the rank that has them.
napi_value broadcast(napi_env env, napi_callback_info info) {
  Call<3> call(env, info);
  if (!joinedOr(env)) return nullptr;
  void* const data = reinterpret_cast<void*>(static_cast<uintptr_t>(numberOf(env, call.arguments[0])));
  return submitted(env, std::unique_ptr<Exchange>(new Broadcast(data, static_cast<size_t>(numberOf(env, call.arguments[1])), static_cast<int>(numberOf(env, call.arguments[2])))));
}

napi_value watch(napi_env env, napi_callback_info info) {
  Call<2> call(env, info);
  Communicator* const communicator = joinedOr(env);
  char name[256] = "";
  napi_get_value_string_utf8(env, call.arguments[0], name, sizeof name, nullptr);
  if (communicator) communicator->watch(name, numberOf(env, call.arguments[1]));
  return undefined(env);
}

napi_value leave(napi_env env, napi_callback_info) {
  Communicator* const communicator = joinedOr(env);
  if (!communicator) return nullptr;
  const napi_value promise = promised(env, group->leaving);
  communicator->leave();
  return promise;
}

napi_value abort(napi_env env, napi_callback_info info) {
  Call<1> call(env, info);
  Communicator* const communicator = Communicator::current();
  if (!communicator) return undefined(env);
  communicator->abort(static_cast<int>(numberOf(env, call.arguments[0])));
  communicator->ends(5);
  return undefined(env);
}

napi_value totals(napi_env env, napi_callback_info) {
  const Communicator::Totals found = Communicator::current() ? Communicator::current()->totals() : Communicator::Totals();
  napi_value object;
  napi_create_object(env, &object);
  setNumber(env, object, "exchanges", static_cast<double>(found.exchanges));
  setNumber(env, object, "sentBytes", static_cast<double>(found.sentBytes));
  setNumber(env, object, "activeNanoseconds", static_cast<double>(found.activeNanoseconds));
  setNumber(env, object, "waitedNanoseconds", static_cast<double>(found.waitedNanoseconds));
  return object;
}

napi_value failed(napi_env env) {
  try {
    throw;
  } catch (const MpiFailure& failure) {
    return throwError(env, "%s", failure.text.c_str());
  } catch (const std::exception& error) {
    return throwError(env, "no memory for an exchange between ranks (%s)", error.what());
  }
}

template <Callback callback> void add(napi_env env, napi_value object, const char* name) { setFunction(env, object, name, guarded<callback, failed>); }

}  // namespace

void exportGroup(napi_env env, napi_value exports) {
  napi_value functions;
  napi_create_object(env, &functions);
  add<join>(env, functions, "join");
  add<exchange>(env, functions, "exchange");
  add<broadcast>(env, functions, "broadcast");
  add<watch>(env, functions, "watch");
  add<leave>(env, functions, "leave");
  add<abort>(env, functions, "abort");
  add<totals>(env, functions, "totals");
  napi_set_named_property(env, exports, "group", functions);
}

}  // namespace ufb
