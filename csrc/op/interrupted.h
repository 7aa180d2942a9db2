#pragma once

namespace fastrnn {

// Runs Python's handlers of the signals that have come, as only its main thread may; false on any
// other. True: a handler raised, as Ctrl-C's does. Its exception is the thread's Python error now,
// and stays so until the op's own exception comes to Python, as whose cause it is shown.
bool interrupted();

}  // namespace fastrnn
