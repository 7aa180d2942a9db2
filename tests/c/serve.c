/* Two threads serve one model at the same time and damaged copies of its file: serve MODEL. Run
 * under sanitizers; prints "same" where all outputs have the same bits. */
#include <fastrnn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { kThreads = 2, kSteps = 60 };

static unsigned char* content;
static size_t size;
static fastrnn_stream* shared;
static float* outputs[kThreads];

static fastrnn_stream* copy_of(size_t length, size_t changed) {
  unsigned char* bytes =
      malloc(length ? length : 1); /* of its own, so that reads beyond are seen */
  memcpy(bytes, content, length);
  if (changed < length) bytes[changed] ^= 0x11;
  fastrnn_stream* stream;
  fastrnn_open_memory(bytes, length, 1, &stream);
  free(bytes);
  return stream;
}

static int damage(int thread) {
  for (size_t at = (size_t)thread; at < size; at += 2) {
    if (copy_of(at, size) || copy_of(size, at) || fastrnn_error()[0] == 0) return 0;
  }
  return 1;
}

static void* serve(void* argument) {
  const int thread = *(int*)argument;
  fastrnn_stream* stream = NULL;
  if (thread) {
    fastrnn_share(shared, 1, &stream);
  } else {
    stream = copy_of(size, size);
  }
  if (!stream || !damage(thread)) return NULL;
  const size_t inputs = (size_t)fastrnn_input_size(stream);
  const size_t width = (size_t)fastrnn_output_size(stream);
  const size_t states = (size_t)fastrnn_state_size(stream);
  float* input = malloc(inputs * sizeof *input);
  float* state = malloc(states * sizeof *state);
  float* output = malloc(kSteps * width * sizeof *output);
  for (size_t t = 0; t < kSteps; ++t) {
    for (size_t i = 0; i < inputs; ++i) input[i] = (float)((t * 7 + i * 3) % 11) / 11 - 0.5f;
    fastrnn_step(stream, 1, input, output + t * width);
    if (t != kSteps / 2) continue;
    fastrnn_get_state(stream, state, (int64_t)states);
    fastrnn_reset(stream, -1);
    fastrnn_set_state(stream, state, (int64_t)states);
  }
  free(input), free(state), fastrnn_free(stream);
  outputs[thread] = output;
  return NULL;
}

int main(int count, char** words) {
  FILE* file = count == 2 ? fopen(words[1], "rb") : NULL;
  if (!file || fastrnn_open(words[1], 1, &shared) != FASTRNN_OK) return 2;
  content = malloc(1 << 20);
  size = fread(content, 1, 1 << 20, file);
  const size_t width = (size_t)fastrnn_output_size(shared);
  pthread_t threads[kThreads];
  int numbers[kThreads];
  for (int i = 0; i < kThreads; ++i) {
    numbers[i] = i;
    pthread_create(&threads[i], NULL, serve, &numbers[i]);
  }
  for (int i = 0; i < kThreads; ++i) pthread_join(threads[i], NULL);
  const int same = outputs[0] && outputs[1] &&
                   memcmp(outputs[0], outputs[1], kSteps * width * sizeof(float)) == 0;
  puts(same ? "same" : "different");
  free(outputs[0]), free(outputs[1]), free(content), fclose(file), fastrnn_free(shared);
  return !same;
}
