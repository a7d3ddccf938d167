// Depthwise causal convolution along walks, forward and backward: device code.
//
// A thread follows one or two channels along a stretch of a route with a ring of the last taps rows of x in registers,
// for the ascending and the descending walk at once: x is loaded once for both. Where the window [p, p + taps) ends, the
// ascending walk's output is due; where it begins, the descending walk's. Neighbouring lanes have neighbouring channels.
#pragma once
#include "tile.cuh"

namespace mmvim::cuda {

// How a route is shared out; a function of shapes and the card alone, since the weight's gradient is a sum over blocks.
struct ConvCut {
  int length;  // positions of a warp
  int blocks;  // of a batch element and group of channels
  int groups;  // of channels
  bool pairs;  // whether two neighbouring channels may be loaded and stored as one
};

// Taps = 0 stands for any number of them: rings lie in shared memory instead of registers.
template <int Taps>
struct ConvShape {
  static constexpr int channels = Taps ? 2 : 1;  // of a thread
  static constexpr int warps = Taps ? 4 : 1;
  static constexpr int threads = warps * kWarp;
  static constexpr int unroll = Taps ? Taps : 1;  // a multiple of the ring's length: its places are known to the compiler
};

// A value per tap and channel that a thread keeps to itself.
template <int Taps>
struct Kept {
  float value[Taps][ConvShape<Taps>::channels];
  MMVIM_DEVICE void place(float*&, int, int) {}
  MMVIM_DEVICE float& operator()(int j, int i) { return value[j][i]; }
};
template <>
struct Kept<0> {
  float* value;
  MMVIM_DEVICE void place(float*& shared, int taps, int lane) { value = shared + lane, shared += taps * kWarp; }
  MMVIM_DEVICE float& operator()(int j, int) { return value[j * kWarp]; }
};

// A thread's channels in memory.
template <int Channels>
struct ConvLane {
  bool pairs, second;  // as one; whether there is a second channel at all

  template <class IO>
  MMVIM_DEVICE void load(const IO* from, float (&to)[Channels]) const {
    if constexpr (Channels == 2) {
      if (pairs) {
        const float2 both = load_pair(from);
        to[0] = both.x, to[1] = both.y;
        return;
      }
      to[1] = second ? to_float(from[1]) : 0.0f;
    }
    to[0] = to_float(from[0]);
  }

  template <class IO>
  MMVIM_DEVICE void save(IO* to, const float (&from)[Channels]) const {
    if constexpr (Channels == 2) {
      if (pairs) return store_pair(to, from[0], from[1]);
      if (second) store(to + 1, from[1]);
    }
    store(to, from[0]);
  }
};

// The part of the work that a thread does. `tokens` are those of positions from `first - halo` on, -1 for none.
template <int Taps>
struct ConvWork {
  static constexpr int V = ConvShape<Taps>::channels;

  MMVIM_DEVICE ConvWork(const ConvInputs& p, const Route& route, const ConvCut& cut, int* tokens)
      : p(p), taps(Taps ? Taps : static_cast<int>(p.taps)), halo(taps - 1), tokens(tokens) {
    constexpr int kWarps = ConvShape<Taps>::warps, kThreads = ConvShape<Taps>::threads;
    const int index = blockIdx.x, thread = threadIdx.x;
    part = index / cut.groups;
    batch = part / cut.blocks;
    steps = static_cast<int>(p.walks.steps);
    first = part % cut.blocks * cut.length * kWarps;
    lane = thread % kWarp;
    channel = (index % cut.groups * kWarp + lane) * V;
    begin = first + thread / kWarp * cut.length;
    end = channel >= p.channels ? begin : begin + cut.length < steps ? begin + cut.length : steps;
    memory = {cut.pairs, channel + 1 < p.channels};
    const Path path{route.ascending, route.column, false};
    for (int i = thread; i < token_count(taps, cut.length); i += kThreads) {
      const int position = first - halo + i;
      tokens[i] = position >= 0 && position < steps ? token_at(p.walks, path, position) : -1;
    }
    __syncthreads();
  }

  // Tokens of a block's positions, of the taps around it and of what is loaded ahead.
  __host__ __device__ __forceinline__ static int token_count(int taps, int length) {
    return ConvShape<Taps>::warps * length + 2 * (taps - 1) + ConvShape<Taps>::unroll;
  }

  MMVIM_DEVICE int token(int position) const { return tokens[position - first + halo]; }

  template <class IO>
  MMVIM_DEVICE void load_x(int position, float (&to)[V]) const {
    const int t = token(position);
    for (int i = 0; i < V; ++i) to[i] = 0.0f;
    if (t >= 0) memory.load(static_cast<const IO*>(p.x.data) + batch * p.x.batch + t * p.x.row + channel, to);
  }

  // The weights of a walk, and its bias.
  MMVIM_DEVICE void load_weights(int walk, Kept<Taps>& weight, float (&bias)[V]) const {
    for (int i = 0; i < V; ++i) {
      const int64_t c = walk * p.channels + smaller(channel + i, p.channels - 1);
      bias[i] = p.bias ? static_cast<const float*>(p.bias)[c] : 0.0f;
#pragma unroll
      for (int j = 0; j < (Taps ? Taps : taps); ++j) weight(j, i) = static_cast<const float*>(p.weight)[c * taps + j];
    }
  }

  // Place of the window's `j`-th position in rings, where `phase` is that of its first.
  MMVIM_DEVICE int slot(int phase, int j) const {
    if constexpr (Taps) return (phase + j) % Taps;
    return phase + j < taps ? phase + j : phase + j - taps;
  }

  // Row of outputs and their gradients: -1 where there is none.
  MMVIM_DEVICE int output_row(int position, bool descending) const {
    if (p.step) return descending ? steps - 1 - position : position;
    return token(position);
  }

  const ConvInputs& p;
  const int taps, halo;
  const int* tokens;
  int lane, part, steps, first, channel, begin, end;  // [begin, end): this warp's positions
  int64_t batch;
  ConvLane<V> memory;
};

template <int Taps, class IO>
__global__ void __launch_bounds__(ConvShape<Taps>::threads) conv_forward(ConvForward p, Route route, ConvCut cut) {
  constexpr int V = ConvShape<Taps>::channels, kUnroll = ConvShape<Taps>::unroll;
  MMVIM_SHARED(float, shared);
  int* tokens = reinterpret_cast<int*>(shared);
  const ConvWork<Taps> work(p, route, cut, tokens);
  const int taps = work.taps, halo = work.halo;
  const bool up = route.ascending >= 0, down = route.descending >= 0;
  const int64_t rows = p.step ? p.walks.steps : p.walks.tokens;
  IO* const y = static_cast<IO*>(p.y) + work.batch * p.walks.count * rows * p.channels + work.channel;

  float* free_shared = shared + ConvWork<Taps>::token_count(taps, cut.length);
  Kept<Taps> x, weight[2];
  float bias[2][V];
  x.place(free_shared, taps, work.lane);
  for (int h = 0; h < 2; ++h) weight[h].place(free_shared, taps, work.lane);
  if (work.begin >= work.end) return;
  if (up) work.load_weights(route.ascending, weight[0], bias[0]);
  if (down) work.load_weights(route.descending, weight[1], bias[1]);

  const auto write = [&](int walk, int position, bool descending, float (&sum)[V]) {
    const int row = work.output_row(position, descending);
    if (row < 0) return;
    if (p.silu)
      for (int i = 0; i < V; ++i) sum[i] = silu(sum[i]);
    work.memory.save(y + (walk * rows + row) * p.channels, sum);
  };

  float row[V];
#pragma unroll
  for (int j = 0; j < (Taps ? Taps - 1 : halo); ++j) {
    work.template load_x<IO>(work.begin - halo + j, row);
    for (int i = 0; i < V; ++i) x(j, i) = row[i];
  }
  // The window is [position, position + taps).
  const int last = down ? work.end : work.end - halo;
  for (int base = work.begin - halo, turn = 0; base < last; base += kUnroll, turn = turn + 1 == taps ? 0 : turn + 1) {
    float next[kUnroll][V];
#pragma unroll
    for (int n = 0; n < kUnroll; ++n) work.template load_x<IO>(base + n + halo, next[n]);
#pragma unroll
    for (int n = 0; n < kUnroll; ++n) {
      const int position = base + n;
      const int phase = Taps ? n : turn;
      for (int i = 0; i < V; ++i) x(work.slot(phase, taps - 1), i) = next[n][i];
      float sum[V];
      if (up && position + halo < work.end) {
        for (int i = 0; i < V; ++i) {
          sum[i] = bias[0][i];
#pragma unroll
          for (int j = 0; j < (Taps ? Taps : taps); ++j) sum[i] += weight[0](j, i) * x(work.slot(phase, j), i);
        }
        write(route.ascending, position + halo, false, sum);
      }
      if (down && position >= work.begin && position < work.end) {
        for (int i = 0; i < V; ++i) {
          sum[i] = bias[1][i];
#pragma unroll
          for (int j = 0; j < (Taps ? Taps : taps); ++j) sum[i] += weight[1](j, i) * x(work.slot(phase, taps - 1 - j), i);
        }
        write(route.descending, position, true, sum);
      }
    }
  }
}

// Where dx goes when it is a sum over several routes: `sum` (batch, tokens, channels) collects them in fp32.
struct ConvSum {
  float* sum;   // null: there is one route, which writes dx itself
  bool add;     // to what earlier routes have left; else this is the first
  bool finish;  // dx is written instead of `sum`
};

// With e = dL/d(sum over taps), dx at position p is the sum of weight[taps - 1 - m] e[p + m] for the ascending walk and
// of weight[taps - 1 - m] e[p - m] for the descending one. Every block and batch element
// leaves its part of the weights' and the bias' gradients, (walks, channels, taps) and (walks, channels).
template <int Taps, class IO>
__global__ void __launch_bounds__(ConvShape<Taps>::threads)
    conv_backward(ConvBackward p, Route route, ConvCut cut, ConvSum target, float* weight_parts, float* bias_parts) {
  constexpr int V = ConvShape<Taps>::channels, kUnroll = ConvShape<Taps>::unroll, kWarps = ConvShape<Taps>::warps;
  MMVIM_SHARED(float, shared);
  int* tokens = reinterpret_cast<int*>(shared);
  const ConvWork<Taps> work(p, route, cut, tokens);
  const int taps = work.taps, halo = work.halo;
  // Half 0 is the ascending walk, half 1 the descending one. Not an array: nothing here is indexed at run time.
  const auto walk = [&](int h) { return h ? route.descending : route.ascending; };
  const auto present = [&](int h) { return walk(h) >= 0; };
  const IO* const grad = static_cast<const IO*>(p.grad.data) + work.batch * p.grad.batch + work.channel;
  const int64_t dx_at = work.batch * p.walks.tokens * p.channels + work.channel;

  float* free_shared = shared + ConvWork<Taps>::token_count(taps, cut.length);
  float* const sums = free_shared;  // of the block's warps, once all are done
  Kept<Taps> x, weight[2], slope[2], dweight[2];
  float bias[2][V], dbias[2][V];
  x.place(free_shared, taps, work.lane);
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    weight[h].place(free_shared, taps, work.lane);
    slope[h].place(free_shared, taps, work.lane);
    dweight[h].place(free_shared, taps, work.lane);
    if (present(h)) work.load_weights(walk(h), weight[h], bias[h]);
    for (int i = 0; i < V; ++i) {
      dbias[h][i] = 0.0f;
#pragma unroll
      for (int j = 0; j < (Taps ? Taps : taps); ++j) slope[h](j, i) = dweight[h](j, i) = 0.0f;
    }
  }

  // e at a position, from x in the window whose first place is `phase`; adds to dweight and dbias if it is this warp's.
  const auto find_slope = [&](int h, int phase, int position, const float (&dy)[V], int to) {
    const bool here = position >= 0 && position < work.steps && work.output_row(position, h) >= 0;
    const bool own = position >= work.begin && position < work.end;
    for (int i = 0; i < V; ++i) {
      float e = dy[i];
      if (p.silu) {
        float v = bias[h][i];
#pragma unroll
        for (int j = 0; j < (Taps ? Taps : taps); ++j)
          v += weight[h](j, i) * x(work.slot(phase, h ? taps - 1 - j : j), i);
        const float gate = sigmoid2(v * kLog2e);
        e *= gate * (1.0f + v * (1.0f - gate));
      }
      e = here ? e : 0.0f;
      slope[h](to, i) = e;
      if (!own) continue;
      dbias[h][i] += e;
#pragma unroll
      for (int j = 0; j < (Taps ? Taps : taps); ++j)
        dweight[h](j, i) += e * x(work.slot(phase, h ? taps - 1 - j : j), i);
    }
  };
  const auto load_grad = [&](int h, int position, float (&to)[V]) {
    for (int i = 0; i < V; ++i) to[i] = 0.0f;
    if (!present(h) || position < 0 || position >= work.steps) return;
    const int row = work.output_row(position, h);
    if (row >= 0) work.memory.load(grad + walk(h) * p.grad.walk + row * p.grad.row, to);
  };

  if (work.begin < work.end) {
    float row[V];
#pragma unroll
    for (int j = 0; j < (Taps ? Taps - 1 : halo); ++j) {
      work.template load_x<IO>(work.begin - halo + j, row);
      for (int i = 0; i < V; ++i) x(j, i) = row[i];
    }
    for (int base = work.begin - halo, turn = 0; base < work.end;
         base += kUnroll, turn = turn + 1 == taps ? 0 : turn + 1) {
      float next[kUnroll][V];
#pragma unroll
      for (int n = 0; n < kUnroll; ++n) work.template load_x<IO>(base + n + halo, next[n]);
#pragma unroll
      for (int n = 0; n < kUnroll; ++n) {
        const int position = base + n;
        const int phase = Taps ? n : turn, newest = work.slot(phase, taps - 1);
        for (int i = 0; i < V; ++i) x(newest, i) = next[n][i];
        float dy[2][V];
        load_grad(0, position + halo, dy[0]);
        load_grad(1, position, dy[1]);
        if (present(0)) find_slope(0, phase, position + halo, dy[0], newest);
        if (present(1)) find_slope(1, phase, position, dy[1], work.slot(phase, 0));
        if (position < work.begin || position >= work.end) continue;
        const int token = work.token(position);
        if (token < 0) continue;
        float sum[V];
        for (int i = 0; i < V; ++i) {
          sum[i] = 0.0f;
          if (present(0))
#pragma unroll
            for (int m = 0; m < (Taps ? Taps : taps); ++m) sum[i] += weight[0](taps - 1 - m, i) * slope[0](work.slot(phase, m), i);
          if (present(1))
#pragma unroll
            for (int m = 0; m < (Taps ? Taps : taps); ++m)
              sum[i] += weight[1](taps - 1 - m, i) * slope[1](work.slot(phase, m ? taps - m : 0), i);
        }
        const int64_t at = dx_at + token * p.channels;
        if (target.add) {
          float before[V];
          work.memory.load(target.sum + at, before);
          for (int i = 0; i < V; ++i) sum[i] += before[i];
        }
        if (target.finish)
          work.memory.save(static_cast<IO*>(p.dx) + at, sum);
        else
          work.memory.save(target.sum + at, sum);
      }
    }
  }

  // The block's sums, in the order of its warps. The bias comes after the last tap.
  const auto write_part = [&](int h, int j, int i, float sum) {
    const int64_t at = (int64_t{work.part} * p.walks.count + walk(h)) * p.channels + work.channel + i;
    if (j < taps)
      weight_parts[at * taps + j] = sum;
    else
      bias_parts[at] = sum;
  };
  if constexpr (kWarps == 1) {
    if (work.begin < work.end)
      for (int h = 0; h < 2; ++h)
        for (int j = 0; present(h) && j <= taps; ++j)
          write_part(h, j, 0, j < taps ? dweight[h](j, 0) : dbias[h][0]);
  } else {
    constexpr int kValues = 2 * (Taps + 1) * V;
    const int warp = threadIdx.x / kWarp;
#pragma unroll
    for (int h = 0; h < 2; ++h)
#pragma unroll
      for (int j = 0; j <= Taps; ++j)
        for (int i = 0; i < V; ++i) {
          const int at = (h * (Taps + 1) + j) * V + i;
          sums[(warp * kValues + at) * kWarp + work.lane] = j < Taps ? dweight[h](j % Taps, i) : dbias[h][i];
        }
    __syncthreads();
    for (int at = warp; at < kValues; at += kWarps) {
      const int i = at % V, j = at / V % (Taps + 1), h = at / V / (Taps + 1);
      if (!present(h) || work.channel + i >= p.channels) continue;
      float sum = 0.0f;
      for (int w = 0; w < kWarps; ++w) sum += sums[(w * kValues + at) * kWarp + work.lane];
      write_part(h, j, i, sum);
    }
  }
}

}  // namespace mmvim::cuda
