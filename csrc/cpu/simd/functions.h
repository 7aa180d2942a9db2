// All that a cell may call on a register, by the names of csrc/cells/math.h.
#pragma once
#include "exp_log.h"
#include "mask.h"
#include "sine.h"
