#include "fastrnn.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "file/file.h"
#include "stream/stack.h"

using fastrnn::FileDtype;
using fastrnn::FileError;
using fastrnn::FileLayer;
using fastrnn::FileTensor;
using fastrnn::stream::LayerSpec;
using fastrnn::stream::Stack;
using fastrnn::stream::Weights;

struct fastrnn_stream {
  std::unique_ptr<Stack> stack;
};

namespace {

constexpr int64_t kMostRows = 1 << 24;

thread_local char last_error[512] = "";

struct Failure {
  fastrnn_status status;
  std::string what;
};

int failed(fastrnn_status status, const char* what) {
  snprintf(last_error, sizeof last_error, "%s", what);
  return status;
}

// Runs the work of a call: no exception leaves the library.
template <class Work>
int guarded(Work work) {
  try {
    work();
    return FASTRNN_OK;
  } catch (const Failure& error) {
    return failed(error.status, error.what.c_str());
  } catch (const FileError& error) {
    const bool damaged = error.kind == FileError::kDamaged;
    return failed(damaged ? FASTRNN_BAD_FILE : FASTRNN_UNSUPPORTED, error.what());
  } catch (const std::bad_alloc&) {
    return failed(FASTRNN_NO_MEMORY, "there is not enough memory");
  } catch (const std::exception& error) {  // of a stack: no such layers, no such instruction set
    return failed(FASTRNN_UNSUPPORTED, error.what());
  }
}

void expect(bool holds, const std::string& what) {
  if (!holds) throw Failure{FASTRNN_BAD_ARGUMENT, what};
}
void expect_rows(int64_t batch_size) {
  expect(batch_size >= 1 && batch_size <= kMostRows, "batch_size must lie between 1 and " +
                                                         std::to_string(kMostRows) + ", got " +
                                                         std::to_string(batch_size));
}

struct Free {
  void operator()(void* memory) const { free(memory); }
};
using Bytes = std::unique_ptr<unsigned char[], Free>;

Bytes memory_for(size_t size) {  // aligned for any number
  Bytes bytes(static_cast<unsigned char*>(malloc(size)));
  if (!bytes) throw std::bad_alloc();
  return bytes;
}

struct Close {
  void operator()(FILE* file) const { fclose(file); }
};

// The whole file; what it says of its size is looked at before memory is taken.
Bytes read_path(const char* path, size_t& size) {
  const auto cannot = [path](const char* why) {
    throw Failure{FASTRNN_CANNOT_READ, std::string(path) + ": " + why};
  };
  const std::unique_ptr<FILE, Close> file(fopen(path, "rb"));
  if (!file) cannot(strerror(errno));
  struct stat status;
  if (fstat(fileno(file.get()), &status) != 0) cannot(strerror(errno));
  if (!S_ISREG(status.st_mode)) cannot("not a file");
  unsigned char head[fastrnn::kFileHeader];
  size = size_t(status.st_size);
  if (fread(head, 1, sizeof head, file.get()) < sizeof head ||
      fastrnn::file_size(head) != uint64_t(size)) {
    if (ferror(file.get())) cannot(strerror(errno));
    fastrnn::read_file(head, size < sizeof head ? size : sizeof head);  // says what is wrong
  }
  Bytes bytes = memory_for(size);
  memcpy(bytes.get(), head, sizeof head);
  const size_t rest = size - sizeof head;
  if (fread(bytes.get() + sizeof head, 1, rest, file.get()) != rest) cannot("it became shorter");
  return bytes;
}

// Tensors as float32, for as long as they are packed.
class Floats {
 public:
  const float* of(const FileTensor& t) {
    if (!t.data) return nullptr;
    if (t.dtype == FileDtype::kFloat32) return static_cast<const float*>(t.data);
    float* out = kept_.emplace_back(new float[size_t(t.rows * t.columns)]).get();
    if (t.dtype == FileDtype::kBfloat16) {
      const auto* from = static_cast<const uint16_t*>(t.data);
      for (int64_t i = 0; i < t.rows * t.columns; ++i) {
        const uint32_t bits = uint32_t(from[i]) << 16;
        memcpy(out + i, &bits, sizeof bits);
      }
      return out;
    }
    const auto* from = static_cast<const int8_t*>(t.data);
    for (int64_t i = 0; i < t.rows * t.columns; ++i) {
      out[i] = float(from[i]) * t.scales[i / t.columns];
    }
    return out;
  }

 private:
  std::vector<std::unique_ptr<float[]>> kept_;
};

std::unique_ptr<Stack> stack_of(const unsigned char* bytes, size_t size, int64_t batch_size) {
  const fastrnn::File file = fastrnn::read_file(bytes, size);
  Floats floats;
  std::vector<LayerSpec> specs;
  for (const FileLayer& l : file.layers) {
    LayerSpec spec;
    spec.cell = l.cell.empty() ? "linear" : std::string_view(l.cell);
    spec.input = l.input_size;
    spec.hidden = l.hidden_size;
    spec.w_ih = floats.of(l.weight_ih);
    spec.w_hh = floats.of(l.weight_hh);
    spec.b_ih = floats.of(l.bias_ih);
    spec.b_hh = floats.of(l.bias_hh);
    spec.projected = l.weight_hr.data ? l.output_size : 0;
    spec.w_hr = floats.of(l.weight_hr);
    specs.push_back(spec);
  }
  const Weights weights = file.weights == FileDtype::kFloat32    ? Weights::kFloat32
                          : file.weights == FileDtype::kBfloat16 ? Weights::kBfloat16
                                                                 : Weights::kInt8;
  return Stack::make(specs, weights, batch_size);
}

// f(where a state lies, its numbers) for all of them, in order.
template <class F>
void each_state(Stack& stack, F f) {
  for (int i = 0; i < stack.layers(); ++i) {
    for (int k = 0; k < stack.states(i); ++k) {
      f(stack.state(i, k), stack.batch() * stack.state_size(i, k));
    }
  }
}

void expect_state(const fastrnn_stream* stream, const float* state, int64_t size) {
  expect(stream && state, "stream and state must not be null");
  const int64_t wanted = fastrnn_state_size(stream);
  expect(size == wanted,
         "size must be " + std::to_string(wanted) + " numbers, got " + std::to_string(size));
}

bool overlap(const float* a, int64_t a_count, const float* b, int64_t b_count) {
  const auto at = [](const float* p) { return reinterpret_cast<uintptr_t>(p); };
  return at(a) < at(b) + uintptr_t(b_count) * sizeof(float) &&
         at(b) < at(a) + uintptr_t(a_count) * sizeof(float);
}

}  // namespace

int fastrnn_open(const char* path, int64_t batch_size, fastrnn_stream** stream) {
  return guarded([&] {
    expect(stream, "stream must not be null");
    *stream = nullptr;
    expect(path, "path must not be null");
    expect_rows(batch_size);
    size_t size = 0;
    const Bytes bytes = read_path(path, size);
    *stream = new fastrnn_stream{stack_of(bytes.get(), size, batch_size)};
  });
}

int fastrnn_open_memory(const void* given, size_t size, int64_t batch_size,
                        fastrnn_stream** stream) {
  return guarded([&] {
    expect(stream, "stream must not be null");
    *stream = nullptr;
    expect(given, "bytes must not be null");
    expect_rows(batch_size);
    const auto* bytes = static_cast<const unsigned char*>(given);
    Bytes aligned;
    if (reinterpret_cast<uintptr_t>(bytes) % alignof(float) != 0) {
      aligned = memory_for(size + 1);
      memcpy(aligned.get(), bytes, size);
      bytes = aligned.get();
    }
    *stream = new fastrnn_stream{stack_of(bytes, size, batch_size)};
  });
}

int fastrnn_share(const fastrnn_stream* stream, int64_t batch_size, fastrnn_stream** other) {
  return guarded([&] {
    expect(other, "other must not be null");
    *other = nullptr;
    expect(stream, "stream must not be null");
    expect_rows(batch_size);
    *other = new fastrnn_stream{stream->stack->share(batch_size)};
  });
}

int fastrnn_step(fastrnn_stream* stream, int64_t steps, const float* input, float* output) {
  return guarded([&] {
    expect(stream && input && output, "stream, input and output must not be null");
    Stack& stack = *stream->stack;
    const int64_t in = stack.batch() * stack.input(), out = stack.batch() * stack.output();
    const int64_t most = INT64_MAX / int64_t(sizeof(float)) / (in > out ? in : out);
    expect(steps >= 0 && steps <= most, "steps must not be " + std::to_string(steps));
    expect(!overlap(input, steps * in, output, steps * out), "input and output must not overlap");
    stack.step(input, steps, output);
  });
}

int fastrnn_reset(fastrnn_stream* stream, int64_t row) {
  return guarded([&] {
    expect(stream, "stream must not be null");
    const int64_t rows = stream->stack->batch();
    expect(row >= -1 && row < rows, "row must lie between -1 and " + std::to_string(rows - 1) +
                                        ", got " + std::to_string(row));
    row < 0 ? stream->stack->reset() : stream->stack->reset(row);
  });
}

int64_t fastrnn_state_size(const fastrnn_stream* stream) {
  int64_t size = 0;
  if (stream) each_state(*stream->stack, [&](float*, int64_t count) { size += count; });
  return size;
}

int fastrnn_get_state(const fastrnn_stream* stream, float* state, int64_t size) {
  return guarded([&] {
    expect_state(stream, state, size);
    each_state(*stream->stack, [&](const float* from, int64_t count) {
      memcpy(state, from, size_t(count) * sizeof(float));
      state += count;
    });
  });
}

int fastrnn_set_state(fastrnn_stream* stream, const float* state, int64_t size) {
  return guarded([&] {
    expect_state(stream, state, size);
    each_state(*stream->stack, [&](float* to, int64_t count) {
      memcpy(to, state, size_t(count) * sizeof(float));
      state += count;
    });
  });
}

int64_t fastrnn_batch_size(const fastrnn_stream* stream) {
  return stream ? stream->stack->batch() : 0;
}
int64_t fastrnn_input_size(const fastrnn_stream* stream) {
  return stream ? stream->stack->input() : 0;
}
int64_t fastrnn_output_size(const fastrnn_stream* stream) {
  return stream ? stream->stack->output() : 0;
}

void fastrnn_free(fastrnn_stream* stream) { delete stream; }

const char* fastrnn_error(void) { return last_error; }

const char* fastrnn_version(void) { return FASTRNN_VERSION; }

const char* fastrnn_isa(void) {
  const char* isa = nullptr;
  guarded([&] { isa = fastrnn::stream::stream_isa(); });
  return isa;
}
