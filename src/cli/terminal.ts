/** Whether the last line of the terminal is a progress bar, which is then cleared before anything is printed, and drawn again. */
export const terminal = { showsBar: false };

export const clearLine = '\r\u001b[K';
