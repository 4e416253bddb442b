// Everything a TPC-C kernel sees. Define TPC_TARGET_gaudi or TPC_TARGET_gaudi2 before (or with -D).
#pragma once

#define __TPC__ 1
#define __gaudi_plus__ 1
#define MAX_VLM 81920
#define MAX_TENSORS 16
#if defined(TPC_TARGET_gaudi2)
#define __gaudi2__ 1
#define __greco_plus__ 1
#define __gaudi2_plus__ 1
#define MAX_SLM 16384
#elif defined(TPC_TARGET_gaudi)
#define __gaudi__ 1
#define MAX_SLM 1024
#else
#error "define TPC_TARGET_gaudi or TPC_TARGET_gaudi2"
#endif

#include "tpc/special.h"
