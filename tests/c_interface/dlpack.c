/* SPDX-License-Identifier: MIT */
#include "c_interface/check.h"

#if defined(HEED_HAS_DLPACK)
#include <dlpack/dlpack.h>

static int released = 0;
static void release(void* owner) {
  ++released;
  *(int*)owner = 7;
}

void test_dlpack(void) {
  static float data[24];
  int64_t shape[5] = {1, 2, 3, 4, 1}, strides[4] = {24, 4, 8, 1};
  DLManagedTensor managed, *made = NULL;
  heed_tensor x, y;
  int owner = 0;
  memset(&managed, 0, sizeof managed);
  managed.dl_tensor.data = data, managed.dl_tensor.ndim = 4, managed.dl_tensor.shape = shape;
  managed.dl_tensor.dtype.code = kDLFloat, managed.dl_tensor.dtype.bits = 32;
  managed.dl_tensor.dtype.lanes = 1;
#if DLPACK_VERSION >= 60 || defined(DLPACK_MAJOR_VERSION)
  managed.dl_tensor.device.device_type = kDLCPU;
#endif
  EXPECT_OK(heed_from_dlpack(&managed, &x));
  EXPECT(x.data == data && x.rank == 4 && x.type == HEED_FLOAT32 && x.strides[1] == 48);
  managed.dl_tensor.strides = strides, managed.dl_tensor.byte_offset = 8;
  EXPECT_OK(heed_from_dlpack(&managed, &x));
  EXPECT(x.data == (char*)data + 8 && x.strides[1] == 16 && x.strides[2] == 32 && x.dims[3] == 4);

  EXPECT_OK(heed_to_dlpack(&x, &owner, release, &made));
  EXPECT(made->dl_tensor.data == x.data && made->dl_tensor.ndim == 4);
  EXPECT(made->dl_tensor.strides[2] == 8 && made->dl_tensor.shape[1] == 2);
  EXPECT_OK(heed_from_dlpack(made, &y));
  EXPECT(memcmp(&x, &y, sizeof x) == 0);
  made->deleter(made);
  EXPECT(released == 1 && owner == 7);
  EXPECT_OK(heed_to_dlpack(&x, NULL, NULL, &made));
  made->deleter(made);

  managed.dl_tensor.ndim = 5;
  EXPECT_REFUSED(heed_from_dlpack(&managed, &x), HEED_INVALID_SHAPE, "5 dimensions");
  managed.dl_tensor.ndim = 0;
  EXPECT_REFUSED(heed_from_dlpack(&managed, &x), HEED_INVALID_SHAPE, "0 dimensions");
  managed.dl_tensor.ndim = 4, managed.dl_tensor.shape = NULL;
  EXPECT_REFUSED(heed_from_dlpack(&managed, &x), HEED_INVALID_SHAPE, "sizes");
  managed.dl_tensor.shape = shape, strides[0] = INT64_MAX / 2;
  EXPECT_REFUSED(heed_from_dlpack(&managed, &x), HEED_INVALID_SHAPE, "address space");
  strides[0] = 24, managed.dl_tensor.dtype.lanes = 2;
  EXPECT_REFUSED(heed_from_dlpack(&managed, &x), HEED_INVALID_TYPE, "2 lanes");
  managed.dl_tensor.dtype.lanes = 1, managed.dl_tensor.dtype.code = 5;
  EXPECT_REFUSED(heed_from_dlpack(&managed, &x), HEED_INVALID_TYPE, "type code 5");
  managed.dl_tensor.dtype.code = kDLFloat, managed.dl_tensor.device.device_type = kDLCUDA;
  EXPECT_REFUSED(heed_from_dlpack(&managed, &x), HEED_INVALID_TYPE, "on device 2");
  EXPECT_REFUSED(heed_from_dlpack(NULL, &x), HEED_INVALID_VALUE, "null");
  EXPECT_REFUSED(heed_from_dlpack_versioned(NULL, &x), HEED_INVALID_VALUE, "null");
  managed.dl_tensor.device.device_type = kDLCPU;
  EXPECT_REFUSED(heed_from_dlpack(&managed, NULL), HEED_INVALID_VALUE, "null");
  EXPECT_REFUSED(heed_to_dlpack(NULL, NULL, NULL, &made), HEED_INVALID_VALUE, "null");
  EXPECT_REFUSED(heed_to_dlpack(&y, NULL, NULL, NULL), HEED_INVALID_VALUE, "null");
  y.flags = HEED_READ_ONLY;
  EXPECT_REFUSED(heed_to_dlpack(&y, NULL, NULL, &made), HEED_INVALID_VALUE, "only be read");
  y.rank = 9;
  EXPECT_REFUSED(heed_to_dlpack(&y, NULL, NULL, &made), HEED_INVALID_SHAPE, "9 dimensions");
#if defined(DLPACK_MAJOR_VERSION)
  {
    struct DLManagedTensorVersioned* versioned = NULL;
    y.rank = 4;
    EXPECT_OK(heed_to_dlpack_versioned(&y, &owner, release, &versioned));
    EXPECT(versioned->version.major == 1 && versioned->flags == DLPACK_FLAG_BITMASK_READ_ONLY);
    EXPECT_OK(heed_from_dlpack_versioned(versioned, &x));
    EXPECT(memcmp(&x, &y, sizeof x) == 0);
    versioned->version.major = 2;
    EXPECT_REFUSED(heed_from_dlpack_versioned(versioned, &x), HEED_INVALID_VALUE, "version 2");
    versioned->deleter(versioned);
    EXPECT(released == 2);
  }
#else
  puts("DLManagedTensorVersioned is not tested: dlpack.h is older than 1.0");
#endif
}

#else

void test_dlpack(void) {
  puts("DLPack is not tested: dlpack.h is missing (Debian: libdlpack-dev)");
}

#endif
