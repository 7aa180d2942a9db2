/* fastrnn without Python: a stack of recurrent layers, as fastrnn.Stream.save wrote it, that runs a
 * step or a few at a time. Its weights are packed once, its states stay inside.
 *
 *   fastrnn_stream* stream;
 *   if (fastrnn_open("model.frnn", 1, &stream) != FASTRNN_OK) return puts(fastrnn_error());
 *   while (next_frame(input)) {
 *     fastrnn_step(stream, 1, input, output);
 *     ...
 *   }
 *   fastrnn_free(stream);
 *
 * Shapes: T steps, B rows (independent sequences), I input features, O output features; float32,
 * row after row. A stream is used by one thread at a time; separate streams, those that share
 * weights too, by any threads at the same time. A call runs on the thread that makes it. */
#ifndef FASTRNN_H
#define FASTRNN_H
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FASTRNN_API __attribute__((visibility("default")))

typedef struct fastrnn_stream fastrnn_stream;

/* What a call returns; fastrnn_error() has the words. After any but FASTRNN_OK nothing has changed.
 */
enum fastrnn_status {
  FASTRNN_OK = 0,
  FASTRNN_BAD_ARGUMENT = 1, /* null, or a size that does not fit */
  FASTRNN_CANNOT_READ = 2,  /* no such file, or one that may not be read */
  FASTRNN_BAD_FILE = 3,     /* no stream file, or a damaged one */
  FASTRNN_UNSUPPORTED = 4,  /* a file of another version, or of cells that this library lacks */
  FASTRNN_NO_MEMORY = 5
};

/* Opens a file for B = batch_size rows, from states of zeros. *stream is null where it fails. Files
 * may come from anybody: whatever is in them, this neither crashes nor takes more memory than some
 * times their size. */
FASTRNN_API int fastrnn_open(const char* path, int64_t batch_size, fastrnn_stream** stream);

/* The same of a file's `size` bytes in memory, which are not needed afterwards. */
FASTRNN_API int fastrnn_open_memory(const void* bytes, size_t size, int64_t batch_size,
                                    fastrnn_stream** stream);

/* Another stream over the same packed weights, with rows and states of its own: for one more
 * sequence that is served. Either may be freed first. */
FASTRNN_API int fastrnn_share(const fastrnn_stream* stream, int64_t batch_size,
                              fastrnn_stream** other);

/* T = steps steps: input [T, B, I] -> output [T, B, O], which may not overlap. Steps one by one and
 * together give the same bits. Allocates nothing, but the first time that T is larger than before.
 */
FASTRNN_API int fastrnn_step(fastrnn_stream* stream, int64_t steps, const float* input,
                             float* output);

/* Begins anew, from states of zeros: one row, or with row = -1 all of them. */
FASTRNN_API int fastrnn_reset(fastrnn_stream* stream, int64_t row);

/* The states of all layers one after another, each [B, n]: h, of LSTM then c. `size` numbers, which
 * must be fastrnn_state_size(). */
FASTRNN_API int64_t fastrnn_state_size(const fastrnn_stream* stream);
FASTRNN_API int fastrnn_get_state(const fastrnn_stream* stream, float* state, int64_t size);
FASTRNN_API int fastrnn_set_state(fastrnn_stream* stream, const float* state, int64_t size);

FASTRNN_API int64_t fastrnn_batch_size(const fastrnn_stream* stream);  /* B */
FASTRNN_API int64_t fastrnn_input_size(const fastrnn_stream* stream);  /* I */
FASTRNN_API int64_t fastrnn_output_size(const fastrnn_stream* stream); /* O */

/* Null is allowed. */
FASTRNN_API void fastrnn_free(fastrnn_stream* stream);

/* What was wrong with this thread's last call that failed; "" before any. Good until the next. */
FASTRNN_API const char* fastrnn_error(void);

FASTRNN_API const char* fastrnn_version(void);

/* The instruction set in use: "base", "avx2", ..: the widest that this CPU has, or what the
 * environment variable FASTRNN_ISA says; null where that does not run here. */
FASTRNN_API const char* fastrnn_isa(void);

#ifdef __cplusplus
}
#endif
#endif
