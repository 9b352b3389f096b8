// What the simulated GPU refuses: each by itself, at once, and nothing else suffers.
#include "../../examples/expect.h"

__global__ void plain(int *out) { out[threadIdx.x] = threadIdx.x * 3; }

__global__ void textured(cudaTextureObject_t texture, float *out) {
    out[threadIdx.x] = tex1Dfetch<float>(texture, threadIdx.x) + tex2D<float>(texture, 0.5f, 0.5f);
}

__global__ void surfaced(cudaSurfaceObject_t surface) { surf1Dwrite(1.0f, surface, threadIdx.x * 4); }

// The runtime remembers the error of a launch until it is asked.
void expectRefused(cudaError_t result, const char *what) {
    cudaGetLastError();
    std::printf("%s: %s\n", what, cudaGetErrorName(result));
    EXPECT(result == cudaErrorNotSupported);
}

int main() {
    constexpr int threads = 32;
    int *out;
    CHECK(cudaMalloc(&out, threads * sizeof(int)));
    textured<<<1, threads>>>(0, reinterpret_cast<float *>(out));
    expectRefused(cudaGetLastError(), "kernel with textures");
    surfaced<<<1, threads>>>(0);
    expectRefused(cudaGetLastError(), "kernel with surfaces");

    cudaResourceDesc resource = {};
    resource.resType = cudaResourceTypeLinear;
    resource.res.linear.devPtr = out;
    resource.res.linear.desc = cudaCreateChannelDesc<float>();
    resource.res.linear.sizeInBytes = threads * sizeof(float);
    const cudaTextureDesc description = {};
    cudaTextureObject_t texture;
    expectRefused(cudaCreateTextureObject(&texture, &resource, &description, nullptr), "texture object");
    cudaArray_t array;
    const cudaChannelFormatDesc format = cudaCreateChannelDesc<float>();
    expectRefused(cudaMallocArray(&array, &format, 32, 32), "array");

    cudaLaunchAttribute cluster;
    cluster.id = cudaLaunchAttributeClusterDimension;
    cluster.val.clusterDim = {2, 1, 1};
    cudaLaunchConfig_t launch = {};
    launch.gridDim = 4;
    launch.blockDim = threads;
    launch.attrs = &cluster;
    launch.numAttrs = 1;
    expectRefused(cudaLaunchKernelEx(&launch, plain, out), "launch in clusters");

    plain<<<1, threads>>>(out);
    CHECK(cudaGetLastError());
    int found[threads];
    CHECK(cudaMemcpy(found, out, sizeof found, cudaMemcpyDeviceToHost));
    for (int i = 0; i < threads; i++) EXPECT(found[i] == i * 3);
    CHECK(cudaFree(out));
    std::printf("PASSED\n");
    return 0;
}
