// A stream file, as fastrnn.Stream.save writes it: layers and their weights. The reader takes bytes
// that may come from anybody: whatever they are, it looks at nothing outside them, and allocates a
// few words a layer. docs/stream_file.md has the format.
#pragma once
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

namespace fastrnn {

// What is wrong with a file: damaged, or whole but beyond this library.
struct FileError : std::runtime_error {
  enum Kind { kDamaged, kUnsupported };
  Kind kind;
  FileError(Kind kind, const std::string& what) : std::runtime_error(what), kind(kind) {}
};

enum class FileDtype : uint32_t { kFloat32 = 1, kBfloat16 = 2, kInt8 = 3 };

// A matrix [rows, columns], or a vector of `rows` numbers in one column. data is null where the
// layer has none.
struct FileTensor {
  FileDtype dtype = FileDtype::kFloat32;
  int64_t rows = 0, columns = 0;
  const void* data = nullptr;     // in the file's bytes, a multiple of 64 from their begin
  const float* scales = nullptr;  // [rows], of int8 alone: what a row's numbers are multiplied by
};

// A layer of one direction: a recurrent one of a cell in kCells, or a linear one.
struct FileLayer {
  std::string cell;                            // empty: linear
  int64_t input_size, hidden_size;             // of a linear one its outputs
  int64_t output_size;                         // numbers of h; of a linear one its outputs
  FileTensor weight_ih, weight_hh, weight_hr;  // a linear one has its weight and bias in *_ih
  FileTensor bias_ih, bias_hh;
};

constexpr uint32_t kFileVersion = 1;
constexpr size_t kFileHeader = 32;  // bytes before the first layer

// weights: how a stream keeps its matrices when it runs; each tensor says what it is kept in here.
struct File {
  FileDtype weights;
  std::vector<FileLayer> layers;
};

// The size that the file's first kFileHeader bytes give it. Throws FileError where they are no
// stream file's, or one of another version.
uint64_t file_size(const unsigned char* header);

// What lies in `bytes`, aligned to four bytes at least, and goes on doing so. Throws FileError.
File read_file(const unsigned char* bytes, size_t size);

}  // namespace fastrnn
