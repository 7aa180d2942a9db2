/* A stream model on a sound, without Python: reads a mono wav file of 16 bits, runs the model on
 * its frames, and prints the last outputs, as speech.py does. python -m fastrnn library --out lib
 *   cc -std=c99 speech.c -Ilib -Llib -lfastrnn -Wl,-rpath,'$ORIGIN/lib' -o speech
 *   ./speech model.frnn sound.wav */
#include <fastrnn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static unsigned long little_endian(const unsigned char* bytes, int count) {
  return count ? bytes[0] | little_endian(bytes + 1, count - 1) << 8 : 0;
}

/* Moves to the samples; their number of bytes, 0 where it is no such file. */
static unsigned long find_samples(FILE* wav) {
  unsigned char head[12], format[16];
  unsigned long size;
  int mono = 0;
  if (fread(head, 1, 12, wav) < 12 || memcmp(head, "RIFF", 4) || memcmp(head + 8, "WAVE", 4)) {
    return 0;
  }
  while (fread(head, 1, 8, wav) == 8) {
    size = little_endian(head + 4, 4);
    if (memcmp(head, "data", 4) == 0) return mono ? size : 0;
    if (memcmp(head, "fmt ", 4) == 0) {
      if (size < 16 || fread(format, 1, 16, wav) < 16) return 0;
      mono = format[0] == 1 && format[2] == 1 && format[14] == 16; /* integers, channels, bits */
      size -= 16;
    }
    if (fseek(wav, (long)(size + size % 2), SEEK_CUR) != 0) return 0;
  }
  return 0;
}

int main(int count, char** words) {
  FILE* wav = count == 3 ? fopen(words[2], "rb") : NULL;
  unsigned long left = wav ? find_samples(wav) : 0;
  fastrnn_stream* stream;
  if (left == 0) return fputs("usage: speech MODEL WAV (mono, 16 bits)\n", stderr), 2;
  if (fastrnn_open(words[1], 1, &stream)) return fprintf(stderr, "%s\n", fastrnn_error()), 1;
  const size_t inputs = fastrnn_input_size(stream), outputs = fastrnn_output_size(stream);
  unsigned char* bytes = malloc(2 * inputs);
  float *frame = malloc(inputs * sizeof *frame), *scores = calloc(outputs, sizeof *scores);
  if (!bytes || !frame || !scores) return fputs("no memory\n", stderr), 1;
  for (; left >= 2 * inputs && fread(bytes, 2, inputs, wav) == inputs; left -= 2 * inputs) {
    for (size_t i = 0; i < inputs; ++i) {
      const long sample = (long)little_endian(bytes + 2 * i, 2);
      frame[i] = (sample < 32768 ? sample : sample - 65536) / 32768.0f;
    }
    fastrnn_step(stream, 1, frame, scores);
  }
  for (size_t i = 0; i < outputs; ++i) printf("%.9g\n", scores[i]);
  free(bytes), free(frame), free(scores), fclose(wav), fastrnn_free(stream);
  return 0;
}
