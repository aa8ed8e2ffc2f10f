// What a gradient's norm makes of it.

inline void clipScale(Context&, const Arguments& a) {
  const float* sums = a.floats(0);
  float* output = a.floats(1);
  double total = 0;
  for (size_t i = 0; i < a.count(0); i++) total += static_cast<double>(sums[i]);
  const double norm = __builtin_sqrt(total), scale = a.numbers[1] / (norm + 1e-6);
  output[0] = scale > 1 ? 1.0f : static_cast<float>(scale);  // NaN stays NaN
  output[1] = static_cast<float>(norm);
}
