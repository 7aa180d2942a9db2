// What the ops ask of Python, where it runs in this process.
#pragma once
#include <string_view>

namespace fastrnn {

constexpr char kInterrupted[] = "interrupted by a signal";

// Runs Python's handlers of the signals that have come, as only its main thread may; false on any
// other. True: a handler raised, as Ctrl-C's does. Its exception is the thread's Python error now,
// and stays so until the op's own exception comes to Python, as whose cause it is shown.
bool interrupted();

// Has fastrnn.compiled load the kernels of a cell for a dtype ("float32"), if it can. Throws
// std::runtime_error with the words of what it raises; of a signal's handler, kInterrupted, and the
// exception stays as above.
void provide(std::string_view cell, const char* dtype);

}  // namespace fastrnn
