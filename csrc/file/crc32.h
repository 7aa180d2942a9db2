// CRC-32 as zlib has it (polynomial 0xEDB88320, reflected), eight bytes at a time.
#pragma once
#include <cstddef>
#include <cstdint>

namespace fastrnn {

// of[i][byte]: what a byte has done to the sum once i bytes of zeros have followed.
struct Crc32Tables {
  uint32_t of[8][256] = {};
  constexpr Crc32Tables() {
    for (uint32_t byte = 0; byte < 256; ++byte) {
      uint32_t crc = byte;
      for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0u);
      of[0][byte] = crc;
    }
    for (int i = 1; i < 8; ++i) {
      for (int byte = 0; byte < 256; ++byte) {
        of[i][byte] = of[i - 1][byte] >> 8 ^ of[0][of[i - 1][byte] & 255];
      }
    }
  }
};

inline uint32_t crc32(const unsigned char* bytes, size_t count) {
  static constexpr Crc32Tables tables;
  uint32_t crc = 0xFFFFFFFFu;
  for (; count >= 8; count -= 8, bytes += 8) {
    uint32_t next = 0;
    for (int i = 0; i < 8; ++i) {
      const uint32_t old = i < 4 ? crc >> 8 * i & 255 : 0;
      next ^= tables.of[7 - i][bytes[i] ^ old];
    }
    crc = next;
  }
  for (; count > 0; --count, ++bytes) crc = crc >> 8 ^ tables.of[0][(crc ^ *bytes) & 255];
  return ~crc;
}

}  // namespace fastrnn
