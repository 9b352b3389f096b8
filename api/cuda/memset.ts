import { input, noun, oneWay, unsupported, type Noun } from "../model.ts";

export const memset: Noun = noun("memset", [
  unsupported("cuMemsetD16", { id: 0x0a00, since: 2000 }, [
    input("dstDevice", "CUdeviceptr_v1"),
    input("us", "unsigned short"),
    input("N", "unsigned int"),
  ]),
  oneWay(
    "cuMemsetD16_v2",
    {
      refused: "synchronous(client)",
      id: 0x0a01,
      since: 3020,
      check: "fill(client, dstDevice, N, 2)",
      perThread: { suffix: "ptds", since: 7000, streamForm: "cuMemsetD16Async" },
    },
    [input("dstDevice", "CUdeviceptr"), input("us", "unsigned short"), input("N", "size_t")],
  ),
  oneWay(
    "cuMemsetD16Async",
    {
      captured: "fill(client, hStream, [dstDevice, 0, us.into(), 2, N as u64, 1])",
      id: 0x0a02,
      since: 3020,
      check: "fill(client, dstDevice, N, 2)",
      perThread: { suffix: "ptsz", since: 7000 },
    },
    [
      input("dstDevice", "CUdeviceptr"),
      input("us", "unsigned short"),
      input("N", "size_t"),
      input("hStream", "CUstream", { nullable: true }),
    ],
  ),
  unsupported("cuMemsetD2D16", { id: 0x0a03, since: 2000 }, [
    input("dstDevice", "CUdeviceptr_v1"),
    input("dstPitch", "unsigned int"),
    input("us", "unsigned short"),
    input("Width", "unsigned int"),
    input("Height", "unsigned int"),
  ]),
  oneWay(
    "cuMemsetD2D16_v2",
    {
      refused: "synchronous(client)",
      id: 0x0a04,
      since: 3020,
      check: "fill_rows(client, dstDevice, dstPitch, Width, Height, 2)",
      perThread: { suffix: "ptds", since: 7000, streamForm: "cuMemsetD2D16Async" },
    },
    [
      input("dstDevice", "CUdeviceptr"),
      input("dstPitch", "size_t"),
      input("us", "unsigned short"),
      input("Width", "size_t"),
      input("Height", "size_t"),
    ],
  ),
  oneWay(
    "cuMemsetD2D16Async",
    {
      captured:
        "fill(client, hStream, [dstDevice, dstPitch as u64, us.into(), 2, Width as u64, Height as u64])",
      id: 0x0a05,
      since: 3020,
      check: "fill_rows(client, dstDevice, dstPitch, Width, Height, 2)",
      perThread: { suffix: "ptsz", since: 7000 },
    },
    [
      input("dstDevice", "CUdeviceptr"),
      input("dstPitch", "size_t"),
      input("us", "unsigned short"),
      input("Width", "size_t"),
      input("Height", "size_t"),
      input("hStream", "CUstream", { nullable: true }),
    ],
  ),
  unsupported("cuMemsetD2D32", { id: 0x0a06, since: 2000 }, [
    input("dstDevice", "CUdeviceptr_v1"),
    input("dstPitch", "unsigned int"),
    input("ui", "unsigned int"),
    input("Width", "unsigned int"),
    input("Height", "unsigned int"),
  ]),
  oneWay(
    "cuMemsetD2D32_v2",
    {
      refused: "synchronous(client)",
      id: 0x0a07,
      since: 3020,
      check: "fill_rows(client, dstDevice, dstPitch, Width, Height, 4)",
      perThread: { suffix: "ptds", since: 7000, streamForm: "cuMemsetD2D32Async" },
    },
    [
      input("dstDevice", "CUdeviceptr"),
      input("dstPitch", "size_t"),
      input("ui", "unsigned int"),
      input("Width", "size_t"),
      input("Height", "size_t"),
    ],
  ),
  oneWay(
    "cuMemsetD2D32Async",
    {
      captured:
        "fill(client, hStream, [dstDevice, dstPitch as u64, ui.into(), 4, Width as u64, Height as u64])",
      id: 0x0a08,
      since: 3020,
      check: "fill_rows(client, dstDevice, dstPitch, Width, Height, 4)",
      perThread: { suffix: "ptsz", since: 7000 },
    },
    [
      input("dstDevice", "CUdeviceptr"),
      input("dstPitch", "size_t"),
      input("ui", "unsigned int"),
      input("Width", "size_t"),
      input("Height", "size_t"),
      input("hStream", "CUstream", { nullable: true }),
    ],
  ),
  unsupported("cuMemsetD2D8", { id: 0x0a09, since: 2000 }, [
    input("dstDevice", "CUdeviceptr_v1"),
    input("dstPitch", "unsigned int"),
    input("uc", "unsigned char"),
    input("Width", "unsigned int"),
    input("Height", "unsigned int"),
  ]),
  oneWay(
    "cuMemsetD2D8_v2",
    {
      refused: "synchronous(client)",
      id: 0x0a0a,
      since: 3020,
      check: "fill_rows(client, dstDevice, dstPitch, Width, Height, 1)",
      perThread: { suffix: "ptds", since: 7000, streamForm: "cuMemsetD2D8Async" },
    },
    [
      input("dstDevice", "CUdeviceptr"),
      input("dstPitch", "size_t"),
      input("uc", "unsigned char"),
      input("Width", "size_t"),
      input("Height", "size_t"),
    ],
  ),
  oneWay(
    "cuMemsetD2D8Async",
    {
      captured:
        "fill(client, hStream, [dstDevice, dstPitch as u64, uc.into(), 1, Width as u64, Height as u64])",
      id: 0x0a0b,
      since: 3020,
      check: "fill_rows(client, dstDevice, dstPitch, Width, Height, 1)",
      perThread: { suffix: "ptsz", since: 7000 },
    },
    [
      input("dstDevice", "CUdeviceptr"),
      input("dstPitch", "size_t"),
      input("uc", "unsigned char"),
      input("Width", "size_t"),
      input("Height", "size_t"),
      input("hStream", "CUstream", { nullable: true }),
    ],
  ),
  unsupported("cuMemsetD32", { id: 0x0a0c, since: 2000 }, [
    input("dstDevice", "CUdeviceptr_v1"),
    input("ui", "unsigned int"),
    input("N", "unsigned int"),
  ]),
  oneWay(
    "cuMemsetD32_v2",
    {
      refused: "synchronous(client)",
      id: 0x0a0d,
      since: 3020,
      check: "fill(client, dstDevice, N, 4)",
      perThread: { suffix: "ptds", since: 7000, streamForm: "cuMemsetD32Async" },
    },
    [input("dstDevice", "CUdeviceptr"), input("ui", "unsigned int"), input("N", "size_t")],
  ),
  oneWay(
    "cuMemsetD32Async",
    {
      captured: "fill(client, hStream, [dstDevice, 0, ui.into(), 4, N as u64, 1])",
      id: 0x0a0e,
      since: 3020,
      check: "fill(client, dstDevice, N, 4)",
      perThread: { suffix: "ptsz", since: 7000 },
    },
    [
      input("dstDevice", "CUdeviceptr"),
      input("ui", "unsigned int"),
      input("N", "size_t"),
      input("hStream", "CUstream", { nullable: true }),
    ],
  ),
  unsupported("cuMemsetD8", { id: 0x0a0f, since: 2000 }, [
    input("dstDevice", "CUdeviceptr_v1"),
    input("uc", "unsigned char"),
    input("N", "unsigned int"),
  ]),
  oneWay(
    "cuMemsetD8_v2",
    {
      refused: "synchronous(client)",
      id: 0x0a10,
      since: 3020,
      check: "fill(client, dstDevice, N, 1)",
      perThread: { suffix: "ptds", since: 7000, streamForm: "cuMemsetD8Async" },
    },
    [input("dstDevice", "CUdeviceptr"), input("uc", "unsigned char"), input("N", "size_t")],
  ),
  oneWay(
    "cuMemsetD8Async",
    {
      captured: "fill(client, hStream, [dstDevice, 0, uc.into(), 1, N as u64, 1])",
      id: 0x0a11,
      since: 3020,
      check: "fill(client, dstDevice, N, 1)",
      perThread: { suffix: "ptsz", since: 7000 },
    },
    [
      input("dstDevice", "CUdeviceptr"),
      input("uc", "unsigned char"),
      input("N", "size_t"),
      input("hStream", "CUstream", { nullable: true }),
    ],
  ),
]);
