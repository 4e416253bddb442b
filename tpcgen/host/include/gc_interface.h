// What today's glue code still takes from the older interface: the number of dims a TPC tensor has.
#ifndef GC_INTERFACE_H
#define GC_INTERFACE_H

namespace gcapi {
static const unsigned MAX_TENSOR_DIM = 5;
}

#endif
