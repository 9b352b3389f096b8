// Two- and three-dimensional copies and sets, in every direction, with pitches and offsets.
//
// A remote GPU could get wrong here: only the bytes of the rectangle may change, on either side; rows must not be
// sent with their padding into the wrong place; a pinned destination is written when the stream comes to it; and a
// copy that stands behind a kernel must not hold up whoever would let the kernel go on.
#include "expect.h"

#include <cstring>
#include <vector>

constexpr int width = 37, height = 23, depth = 5; // in elements
constexpr int hostWidth = 50;                     // rows of the host are longer

__global__ void addOne(char *base, size_t pitch, int columns, int rows) {
    for (int row = threadIdx.y; row < rows; row += blockDim.y)
        for (int column = threadIdx.x; column < columns; column += blockDim.x)
            reinterpret_cast<int *>(base + row * pitch)[column] += 1;
}

__global__ void waitFor(const volatile int *flag) {
    while (*flag == 0) {
    }
}

static void twoDimensions() {
    char *device, *second;
    size_t pitch, secondPitch;
    CHECK(cudaMallocPitch(&device, &pitch, width * sizeof(int), height));
    CHECK(cudaMallocPitch(&second, &secondPitch, 2 * width * sizeof(int), height));
    EXPECT(pitch >= width * sizeof(int) && pitch % 16 == 0);

    std::vector<int> source(hostWidth * height), result(hostWidth * height, -1);
    for (int i = 0; i < hostWidth * height; i++) source[i] = i * 3;
    const size_t row = hostWidth * sizeof(int), line = width * sizeof(int);
    CHECK(cudaMemcpy2D(device, pitch, source.data(), row, line, height, cudaMemcpyHostToDevice));
    addOne<<<1, dim3(16, 8)>>>(device, pitch, width, height);
    CHECK(cudaGetLastError());
    // Device to device, ten columns further right; then back into the middle of the host's rows.
    CHECK(cudaMemset2D(second, secondPitch, 0xFF, 2 * line, height));
    CHECK(cudaMemcpy2D(second + 10 * sizeof(int), secondPitch, device, pitch, line, height, cudaMemcpyDeviceToDevice));
    CHECK(cudaMemcpy2D(result.data() + 5, row, second + 9 * sizeof(int), secondPitch, line, height,
                       cudaMemcpyDeviceToHost));
    for (int y = 0; y < height; y++)
        for (int x = 0; x < hostWidth; x++) {
            const int column = x - 6; // 5 in the host's row, and one column of what was set before
            const bool copied = column >= 0 && column < width - 1;
            EXPECT(result[y * hostWidth + x] == (copied ? source[y * hostWidth + column] + 1 : -1));
        }
    std::printf("2-D: %d × %d, pitches and offsets\n", width, height);

    // The same in a stream, from and to pinned memory.
    int *pinned;
    CHECK(cudaMallocHost(&pinned, 2 * row * height));
    int *back = pinned + hostWidth * height;
    for (int i = 0; i < hostWidth * height; i++) {
        pinned[i] = i * 7;
        back[i] = -2;
    }
    cudaStream_t stream;
    CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    CHECK(cudaMemcpy2DAsync(device, pitch, pinned, row, line, height, cudaMemcpyHostToDevice, stream));
    addOne<<<1, dim3(16, 8), 0, stream>>>(device, pitch, width, height);
    CHECK(cudaMemset2DAsync(device + 3 * pitch, pitch, 0, 8 * sizeof(int), 4, stream));
    CHECK(cudaMemcpy2DAsync(back, row, device, pitch, line, height, cudaMemcpyDeviceToHost, stream));
    CHECK(cudaStreamSynchronize(stream));
    for (int y = 0; y < height; y++)
        for (int x = 0; x < hostWidth; x++) {
            const bool cleared = x < 8 && y >= 3 && y < 7;
            const int expected = x >= width ? -2 : cleared ? 0 : (y * hostWidth + x) * 7 + 1;
            EXPECT(back[y * hostWidth + x] == expected);
        }
    std::printf("2-D in a stream\n");

    EXPECT(cudaMemcpy2D(device, line - 1, source.data(), row, line, height, cudaMemcpyHostToDevice) ==
           cudaErrorInvalidPitchValue);
    (void)cudaGetLastError();
    CHECK(cudaStreamDestroy(stream));
    CHECK(cudaFreeHost(pinned));
    CHECK(cudaFree(device));
    CHECK(cudaFree(second));
}

static void threeDimensions() {
    cudaPitchedPtr box;
    CHECK(cudaMalloc3D(&box, make_cudaExtent(width * sizeof(int), height, depth)));
    CHECK(cudaMemset3D(box, 0x11, make_cudaExtent(width * sizeof(int), height, depth)));
    std::vector<int> source(width * height * depth), result(width * height * depth, -1);
    for (size_t i = 0; i < source.size(); i++) source[i] = static_cast<int>(i);

    // An inner box goes to another place of the device's box.
    const int x = 4, y = 3, z = 1, w = 20, h = 11, d = 3;
    cudaMemcpy3DParms copy = {};
    copy.srcPtr = make_cudaPitchedPtr(source.data(), width * sizeof(int), width, height);
    copy.srcPos = make_cudaPos(x * sizeof(int), y, z);
    copy.dstPtr = box;
    copy.dstPos = make_cudaPos((x + 2) * sizeof(int), y + 1, z + 1);
    copy.extent = make_cudaExtent(w * sizeof(int), h, d);
    copy.kind = cudaMemcpyHostToDevice;
    CHECK(cudaMemcpy3D(&copy));

    cudaStream_t stream;
    CHECK(cudaStreamCreate(&stream));
    cudaMemcpy3DParms whole = {};
    whole.srcPtr = box;
    whole.dstPtr = make_cudaPitchedPtr(result.data(), width * sizeof(int), width, height);
    whole.extent = make_cudaExtent(width * sizeof(int), height, depth);
    whole.kind = cudaMemcpyDeviceToHost;
    CHECK(cudaMemcpy3DAsync(&whole, stream));
    CHECK(cudaStreamSynchronize(stream));
    for (int k = 0; k < depth; k++)
        for (int j = 0; j < height; j++)
            for (int i = 0; i < width; i++) {
                const bool inside = i >= x + 2 && i < x + 2 + w && j >= y + 1 && j < y + 1 + h && k >= z + 1 && k < z + 1 + d;
                const int from = ((k - 1) * height + j - 1) * width + i - 2;
                EXPECT(result[(k * height + j) * width + i] == (inside ? source[from] : 0x11111111));
            }
    std::printf("3-D: a box of %d × %d × %d\n", w, h, d);
    CHECK(cudaStreamDestroy(stream));
    CHECK(cudaFree(box.ptr));
}

// Copies stand behind a kernel that waits for a flag, which is set when all is queued.
static void behindAKernel() {
    char *device;
    int *flag, *pinned;
    size_t pitch;
    const size_t line = width * sizeof(int);
    CHECK(cudaMallocPitch(&device, &pitch, line, height));
    CHECK(cudaMalloc(&flag, sizeof(int)));
    CHECK(cudaMallocHost(&pinned, (2 * width * height + 1) * sizeof(int)));
    int *back = pinned + width * height, *one = back + width * height;
    for (int i = 0; i < width * height; i++) pinned[i] = i * 5;
    *one = 1;
    CHECK(cudaMemset(flag, 0, sizeof(int)));
    CHECK(cudaDeviceSynchronize()); // the streams below ignore the legacy stream
    cudaStream_t queue, other;
    CHECK(cudaStreamCreateWithFlags(&queue, cudaStreamNonBlocking));
    CHECK(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking));

    waitFor<<<1, 1, 0, queue>>>(flag);
    CHECK(cudaMemcpy2DAsync(device, pitch, pinned, line, line, height, cudaMemcpyHostToDevice, queue));
    addOne<<<1, dim3(16, 8), 0, queue>>>(device, pitch, width, height);
    CHECK(cudaGetLastError());
    CHECK(cudaMemcpy2DAsync(back, line, device, pitch, line, height, cudaMemcpyDeviceToHost, queue));
    EXPECT(cudaStreamQuery(queue) == cudaErrorNotReady);
    (void)cudaGetLastError();
    CHECK(cudaMemcpyAsync(flag, one, sizeof(int), cudaMemcpyHostToDevice, other));
    CHECK(cudaStreamSynchronize(queue));
    for (int i = 0; i < width * height; i++) EXPECT(back[i] == i * 5 + 1);
    std::printf("2-D behind a kernel that waits\n");

    CHECK(cudaStreamDestroy(queue));
    CHECK(cudaStreamDestroy(other));
    CHECK(cudaFree(device));
    CHECK(cudaFree(flag));
    CHECK(cudaFreeHost(pinned));
}

int main() {
    twoDimensions();
    threeDimensions();
    behindAKernel();
    std::printf("PASSED\n");
    return 0;
}
