// The reader of stream files on files that lie: fuzz SECONDS FILE.. -- LIES.. reads the lies, and
// changes the whole files at every place and at random. Nothing may be read outside the bytes (the
// sanitizers see that), nothing large allocated, and no damage taken for a file.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <new>
#include <random>
#include <string>
#include <vector>

#include "cells/registry.h"
#include "file/crc32.h"
#include "file/file.h"

using Bytes = std::vector<unsigned char>;
using fastrnn::FileError;
using fastrnn::FileTensor;

static size_t largest = 0;  // allocation since it was last set to 0

void* operator new(size_t size) {
  if (size > largest) largest = size;
  if (void* memory = malloc(size)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { free(memory); }
void operator delete(void* memory, size_t) noexcept { free(memory); }

namespace {

constexpr size_t kLarge = 256 << 10;  // bytes; kMostLayers layers take about as many
constexpr size_t kHeader = fastrnn::kFileHeader, kSizeAt = 16, kCrcAt = 12;

uint64_t sum = 0;  // of what was read, so that it is read

// As who runs the layer reads a tensor: by the layer's sizes.
void read_through(const FileTensor& t, int64_t rows, int64_t columns) {
  if (!t.data) return;
  const size_t item = t.dtype == fastrnn::FileDtype::kFloat32    ? 4
                      : t.dtype == fastrnn::FileDtype::kBfloat16 ? 2
                                                                 : 1;
  const auto* bytes = static_cast<const unsigned char*>(t.data);
  for (size_t i = 0; i < size_t(rows * columns) * item; ++i) sum += bytes[i];
  for (int64_t i = 0; t.scales && i < rows; ++i) sum += t.scales[i] > 0;
}
void read_through(const fastrnn::FileLayer& l) {
  int64_t gates = 1;
  for (const fastrnn::CellInfo& cell : fastrnn::kCells) {
    if (l.cell == cell.name) gates = cell.gates;
  }
  const int64_t rows = gates * l.hidden_size;
  read_through(l.weight_ih, rows, l.input_size);
  read_through(l.weight_hh, rows, l.output_size);
  read_through(l.weight_hr, l.output_size, l.hidden_size);
  read_through(l.bias_ih, rows, 1);
  read_through(l.bias_hh, rows, 1);
}

[[noreturn]] void fail(const char* what, const Bytes& bytes) {
  std::ofstream("fuzz-failure.bin", std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()), std::streamsize(bytes.size()));
  printf("%s: see fuzz-failure.bin\n", what);
  exit(1);
}

// Is it a file? In memory of exactly its size, so that a byte too far is seen.
bool reads(const Bytes& bytes) {
  std::unique_ptr<unsigned char, void (*)(void*)> exact(
      static_cast<unsigned char*>(malloc(bytes.size() + 1)), free);
  unsigned char* begin = exact.get();
  begin = static_cast<unsigned char*>(realloc(exact.release(), bytes.size() ? bytes.size() : 1));
  exact.reset(begin);
  if (!bytes.empty()) memcpy(begin, bytes.data(), bytes.size());
  largest = 0;
  bool whole = true;
  try {
    const fastrnn::File file = fastrnn::read_file(begin, bytes.size());
    for (const fastrnn::FileLayer& layer : file.layers) read_through(layer);
  } catch (const FileError& error) {
    if (strlen(error.what()) < 10) fail("an error without words", bytes);
    whole = false;
  }
  if (largest > kLarge) fail("a large allocation", bytes);
  return whole;
}

void put(Bytes& bytes, size_t at, const void* value, size_t size) {
  if (at + size <= bytes.size()) memcpy(bytes.data() + at, value, size);
}
// The size and the checksum that the bytes should have.
void mend(Bytes& bytes) {
  if (bytes.size() < kHeader) return;
  const uint64_t size = bytes.size();
  put(bytes, kSizeAt, &size, sizeof size);
  const uint32_t crc = fastrnn::crc32(bytes.data() + kSizeAt, bytes.size() - kSizeAt);
  put(bytes, kCrcAt, &crc, sizeof crc);
}

void every_place(const Bytes& good) {
  for (size_t end = 0; end < good.size(); ++end) {
    Bytes bad(good.begin(), good.begin() + std::ptrdiff_t(end));
    if (reads(bad)) fail("a truncated file", bad);
    mend(bad);
    if (reads(bad)) fail("a truncated file with a checksum of its own", bad);
  }
  for (size_t at = 0; at < good.size(); ++at) {
    for (const int change : {0xFF, 1, 0x80}) {
      Bytes bad = good;
      bad[at] ^= static_cast<unsigned char>(change);
      if (reads(bad)) fail("a changed byte", bad);
      if (change == 0xFF) continue;
      mend(bad);
      reads(bad);
    }
  }
  Bytes longer = good;
  longer.push_back(0);
  if (reads(longer)) fail("a byte too many", longer);
  mend(longer);
  if (reads(longer)) fail("a byte too many with a checksum of its own", longer);
}

constexpr uint64_t kSizes[] = {0,           1,          2,          64,          65,
                               255,         256,        1024,       1025,        0x7FFFFFFF,
                               0x80000000u, 0xFFFFFFFF, 1ull << 32, ~0ull >> 1,  ~0ull - 63,
                               ~0ull,       1ull << 62, 1ull << 63, 0xFFFFFFC0u, 0x40000000};

void hostile_sizes(const Bytes& good) {
  for (size_t at = kSizeAt; at + 4 <= good.size(); at += 4) {
    for (const uint64_t value : kSizes) {
      for (const size_t size : {4, 8}) {
        Bytes bad = good;
        put(bad, at, &value, size);
        mend(bad);
        reads(bad);
      }
    }
  }
}

void random_changes(const Bytes& good, std::mt19937_64& random) {
  Bytes bad = good;
  for (uint64_t i = random() % 6 + 1; i > 0; --i) {
    const size_t at = random() % bad.size();
    const uint64_t value = random() % 2 ? random() : kSizes[random() % std::size(kSizes)];
    put(bad, random() % 4 ? at / 4 * 4 : at, &value, size_t(1) << random() % 4);
    if (random() % 8 == 0) bad.resize(random() % bad.size() + 1);
    if (random() % 16 == 0) bad.insert(bad.end(), good.begin(), good.end());
  }
  if (random() % 64) mend(bad);
  reads(bad);
}

}  // namespace

int main(int count, char** words) {
  if (count < 3) return printf("usage: fuzz SECONDS FILE.. -- LIES..\n"), 2;
  std::vector<Bytes> files;
  bool lies = false;
  for (int i = 2; i < count; ++i) {
    if (std::string(words[i]) == "--") {
      lies = true;
      continue;
    }
    std::ifstream in(words[i], std::ios::binary);
    Bytes bytes{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
    if (reads(bytes) == lies) fail(lies ? "a lie was taken for a file" : "not a file", bytes);
    if (lies) continue;
    every_place(bytes);
    hostile_sizes(bytes);
    files.push_back(bytes);
  }
  using Clock = std::chrono::steady_clock;
  const auto until = Clock::now() + std::chrono::duration<double>(atof(words[1]));
  std::mt19937_64 random(1);
  uint64_t tries = 0;
  for (; Clock::now() < until; ++tries) random_changes(files[tries % files.size()], random);
  printf("no complaints after %llu random files (%llu)\n", static_cast<unsigned long long>(tries),
         static_cast<unsigned long long>(sum));
}
