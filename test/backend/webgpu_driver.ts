import { existsSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

/**
 * Lets the package webgpu find a driver that computes on the processor: SwiftShader, which Chromium has with it. For what is right, not for what
 * is fast. UFB_SWIFTSHADER names its library, or VK_DRIVER_FILES another driver. Returns why there is none, in one line.
 */
function findDriver(): string | undefined {
  if (process.env.VK_DRIVER_FILES) return undefined;
  const places = [
    process.env.UFB_SWIFTSHADER,
    ...['/usr/lib/chromium', '/usr/lib/chromium-browser', '/opt/google/chrome'].map((folder) => join(folder, 'libvk_swiftshader.so')),
  ];
  const library = places.find((place) => place && existsSync(place));
  if (!library) return 'WebGPU not tested: no libvk_swiftshader.so found; install chromium or name it in UFB_SWIFTSHADER';
  // Its own description names it beside itself, which not every loader takes.
  const description = join(mkdtempSync(join(tmpdir(), 'ufb-vulkan-')), 'swiftshader.json');
  writeFileSync(description, JSON.stringify({ file_format_version: '1.0.0', ICD: { library_path: library, api_version: '1.0.5' } }));
  process.env.VK_DRIVER_FILES = description;
  process.env.XDG_RUNTIME_DIR ??= dirname(description);
  return undefined;
}

export const webGpuMissing = findDriver();
