#include "file.h"

#include <cstring>

#include "cells/registry.h"
#include "crc32.h"

namespace fastrnn {
namespace {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "numbers are read where they lie");

constexpr unsigned char kMagic[8] = {0x89, 'F', 'R', 'N', 'N', '\r', '\n', 0x1A};
constexpr uint64_t kAlign = 64;  // of tensors
constexpr uint32_t kMostLayers = 1024, kMostTensors = 16, kMostName = 255;
enum Kind : uint32_t { kRecurrent = 1, kLinear = 2 };
enum Role : uint32_t { kWeightIh = 1, kWeightHh, kBiasIh, kBiasHh, kWeightHr };
constexpr const char* kRoles[] = {"", "weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr"};

[[noreturn]] void damaged(const std::string& what) {
  throw FileError(FileError::kDamaged, "the stream file is damaged: " + what);
}
[[noreturn]] void unsupported(const std::string& what) {
  throw FileError(FileError::kUnsupported, what);
}
std::string text(uint64_t number) { return std::to_string(number); }
std::string shape(uint64_t rows, uint64_t columns) {
  return "[" + text(rows) + ", " + text(columns) + "]";
}

// What comes next in the file; nothing outside it is ever looked at.
class Cursor {
 public:
  Cursor(const unsigned char* bytes, uint64_t size) : bytes_(bytes), size_(size) {}
  uint64_t at() const { return at_; }
  const unsigned char* take(uint64_t count, uint64_t item = 1) {
    if (count > (size_ - at_) / item) damaged("it ends at byte " + text(size_) + ", too early");
    const unsigned char* found = bytes_ + at_;
    at_ += count * item;
    return found;
  }
  template <class N>
  N number() {
    N value;
    memcpy(&value, take(sizeof value), sizeof value);
    return value;
  }
  uint32_t u32() { return number<uint32_t>(); }
  uint64_t u64() { return number<uint64_t>(); }
  void zeros(uint64_t count) {
    const unsigned char* bytes = take(count);
    for (uint64_t i = 0; i < count; ++i) {
      if (bytes[i] != 0) damaged("byte " + text(at_ - count + i) + " must be 0");
    }
  }
  void align(uint64_t to) { zeros((to - at_ % to) % to); }

 private:
  const unsigned char* bytes_;
  uint64_t size_, at_ = 0;
};

// A tensor whose place was announced; the data come after all records.
struct Announced {
  FileTensor* tensor;
  uint64_t offset, scales;
  std::string name;
};

uint64_t bytes_of(FileDtype dtype) {
  return dtype == FileDtype::kFloat32 ? 4 : dtype == FileDtype::kBfloat16 ? 2 : 1;
}

FileDtype read_dtype(Cursor& in, const std::string& of) {
  const uint32_t dtype = in.u32();
  if (dtype < 1 || dtype > 3) unsupported(of + " is of an unknown dtype, " + text(dtype));
  return FileDtype(dtype);
}

FileTensor* slot(FileLayer& layer, uint32_t role, const std::string& of) {
  FileTensor* found = role == kWeightIh   ? &layer.weight_ih
                      : role == kWeightHh ? &layer.weight_hh
                      : role == kBiasIh   ? &layer.bias_ih
                      : role == kBiasHh   ? &layer.bias_hh
                      : role == kWeightHr ? &layer.weight_hr
                                          : nullptr;
  if (!found) unsupported(of + " has a tensor of an unknown role, " + text(role));
  if (found->rows) damaged(of + " has two " + kRoles[role]);
  return found;
}

Announced read_tensor(Cursor& in, FileLayer& layer, const std::string& of) {
  const uint32_t role = in.u32();
  FileTensor* tensor = slot(layer, role, of);
  const std::string name = of + "'s " + kRoles[role];
  tensor->dtype = read_dtype(in, name);
  tensor->rows = in.u32();
  tensor->columns = in.u32();
  if (tensor->rows == 0 || tensor->columns == 0) damaged(name + " is empty");
  const uint64_t offset = in.u64(), scales = in.u64();
  return {tensor, offset, scales, name};
}

// The data come one tensor after another, so that none is there twice and nothing lies between.
void place(Cursor& in, const Announced& a) {
  const auto at = [&](uint64_t offset, const char* what) {
    in.align(kAlign);
    if (offset != in.at()) {
      damaged(a.name + what + " must begin at byte " + text(in.at()) + ", got " + text(offset));
    }
  };
  FileTensor& t = *a.tensor;
  at(a.offset, "");
  t.data = in.take(uint64_t(t.rows) * uint64_t(t.columns), bytes_of(t.dtype));
  if (t.dtype == FileDtype::kInt8) {
    at(a.scales, "'s scales");
    t.scales = reinterpret_cast<const float*>(in.take(uint64_t(t.rows), sizeof(float)));
  } else if (a.scales != 0) {
    damaged(a.name + " must have no scales");
  }
}

void expect(const FileTensor& t, const std::string& name, uint64_t rows, uint64_t columns) {
  const uint64_t r = uint64_t(t.rows), c = uint64_t(t.columns);
  if (r != rows || c != columns) {
    damaged(name + " must be " + shape(rows, columns) + ", got " + shape(r, c));
  }
}
// A vector: never in int8.
void expect_bias(const FileTensor& t, const std::string& name, uint64_t rows) {
  if (t.rows == 0) return;
  expect(t, name, rows, 1);
  if (t.dtype == FileDtype::kInt8) damaged(name + " must not be in int8");
}

const CellInfo& info_of(const std::string& cell, const std::string& of) {
  std::string there;
  for (const CellInfo& info : kCells) {
    if (cell == info.name) return info;
    there += (there.empty() ? "" : ", ") + std::string(info.name);
  }
  unsupported(of + " is of the cell '" + cell + "', which is not built in; there are " + there);
}

// Do the tensors fit the sizes? H, I and P are below 2^32, so no product here overflows.
void check_recurrent(const FileLayer& l, const std::string& of) {
  const CellInfo& cell = info_of(l.cell, of);
  if (cell.params || cell.extra || cell.heads || !cell.recurrent) {
    unsupported(of + " is of the cell '" + l.cell + "', which streams do not have");
  }
  const uint64_t I = l.input_size, H = l.hidden_size, P = l.output_size;
  if (P > H) damaged(of + "'s output_size must be at most " + text(H) + ", got " + text(P));
  expect(l.weight_ih, of + "'s weight_ih", cell.gates * H, I);
  expect(l.weight_hh, of + "'s weight_hh", cell.recurrent * H, P);
  expect_bias(l.bias_ih, of + "'s bias_ih", cell.gates * H);
  expect_bias(l.bias_hh, of + "'s bias_hh", cell.recurrent * H);
  if (l.weight_hr.rows) {
    if (!cell.projects) damaged(of + " must have no weight_hr");
    expect(l.weight_hr, of + "'s weight_hr", P, H);
  } else if (P != H) {
    damaged(of + " lacks its weight_hr");
  }
}

void check_linear(const FileLayer& l, const std::string& of) {
  const uint64_t I = l.input_size, O = l.output_size;
  if (l.hidden_size != l.output_size) damaged(of + "'s sizes differ");
  expect(l.weight_ih, of + "'s weight", O, I);
  expect_bias(l.bias_ih, of + "'s bias", O);
  if (l.weight_hh.rows || l.bias_hh.rows || l.weight_hr.rows) {
    damaged(of + " must have a weight and a bias alone");
  }
}

void read_layer(Cursor& in, FileLayer& layer, std::vector<Announced>& tensors,
                const std::string& of) {
  const uint32_t kind = in.u32();
  if (kind != kRecurrent && kind != kLinear) {
    unsupported(of + " is of an unknown kind, " + text(kind));
  }
  layer.input_size = in.u32();
  layer.hidden_size = in.u32();
  layer.output_size = in.u32();
  if (!layer.input_size || !layer.hidden_size || !layer.output_size) damaged(of + " has size 0");
  const uint32_t count = in.u32(), length = in.u32();
  if (count > kMostTensors) damaged(of + " has " + text(count) + " tensors");
  if (length > kMostName || (length == 0) != (kind == kLinear)) {
    damaged(of + "'s cell has a name of " + text(length) + " bytes");
  }
  layer.cell.assign(reinterpret_cast<const char*>(in.take(length)), length);
  for (const char c : layer.cell) {
    if (c < '!' || c > '~') damaged(of + "'s cell has a name with byte " + text(uint8_t(c)));
  }
  in.align(8);
  for (uint32_t i = 0; i < count; ++i) tensors.push_back(read_tensor(in, layer, of));
  kind == kRecurrent ? check_recurrent(layer, of) : check_linear(layer, of);
}

}  // namespace

uint64_t file_size(const unsigned char* header) {
  if (memcmp(header, kMagic, sizeof kMagic) != 0) {
    throw FileError(FileError::kDamaged, "this is no stream file: it does not begin as one");
  }
  Cursor in(header, kFileHeader);
  in.take(sizeof kMagic);
  const uint32_t version = in.u32();
  if (version != kFileVersion) {
    unsupported("the stream file is of version " + text(version) + ", this library reads " +
                text(kFileVersion));
  }
  in.u32();
  return in.u64();
}

File read_file(const unsigned char* bytes, size_t size) {
  if (size < kFileHeader) damaged("it has " + text(size) + " bytes");
  const uint64_t wanted = file_size(bytes);
  if (wanted != size) damaged("it has " + text(size) + " bytes of " + text(wanted));
  Cursor in(bytes, size);
  in.take(sizeof kMagic + sizeof kFileVersion);
  if (in.u32() != crc32(bytes + in.at(), size - in.at())) damaged("its checksum is wrong");
  in.u64();
  const uint32_t count = in.u32();
  File file{read_dtype(in, "the stream"), {}};
  if (count < 1 || count > kMostLayers) damaged("it has " + text(count) + " layers");
  std::vector<FileLayer>& layers = file.layers;
  layers.resize(count);
  std::vector<Announced> tensors;
  for (uint32_t i = 0; i < count; ++i) {
    const std::string of = "layer " + text(i);
    read_layer(in, layers[i], tensors, of);
    if (i > 0 && layers[i].input_size != layers[i - 1].output_size) {
      damaged(of + "'s input_size must be " + text(layers[i - 1].output_size) + ", got " +
              text(layers[i].input_size));
    }
  }
  for (const Announced& tensor : tensors) place(in, tensor);
  if (in.at() != size) damaged("something follows the last tensor");
  return file;
}

}  // namespace fastrnn
